/* Counts the captures under way: a recorded launch costs nothing until its graph is launched, and while one
 * is under way some questions to the driver would spoil it. Without captures no launch has to ask. */
#include "capture.h"

#include "pass.h"

uint32_t vgpu_captures_underway;

bool vgpu_is_capturing(CUstream stream, bool per_thread) {
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    CUresult result = per_thread ? REAL(cuStreamIsCapturing_ptsz)(stream, &status) : REAL(cuStreamIsCapturing)(stream, &status);
    return result != CUDA_SUCCESS || status != CU_STREAM_CAPTURE_STATUS_NONE;
}

/* Before the driver is asked: other threads must not pass while the capture begins. */
static void announce(void) {
    __atomic_fetch_add(&vgpu_captures_underway, 1, __ATOMIC_ACQ_REL);
    vgpu_pass_end_all();
}

static void take_back(void) {
    uint32_t count = RELAXED_LOAD(&vgpu_captures_underway);
    while (count && !__atomic_compare_exchange_n(&vgpu_captures_underway, &count, count - 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {}
    vgpu_pass_end_all();
}

static CUresult begun(CUresult result) {
    if (result != CUDA_SUCCESS) take_back();
    return result;
}

CUresult vgpu_begin_capture_v1(enum vgpu_function id, CUstream stream) {
    announce();
    return begun(REAL_AS(cuStreamBeginCapture, id)(stream));
}

CUresult vgpu_begin_capture(enum vgpu_function id, CUstream stream, CUstreamCaptureMode mode) {
    announce();
    return begun(REAL_AS(cuStreamBeginCapture_v2, id)(stream, mode));
}

CUresult vgpu_begin_capture_to_graph(enum vgpu_function id, CUstream stream, CUgraph graph, const CUgraphNode *nodes,
                                     const CUgraphEdgeData *edges, size_t count, CUstreamCaptureMode mode) {
    announce();
    return begun(REAL_AS(cuStreamBeginCaptureToGraph, id)(stream, graph, nodes, edges, count, mode));
}

CUresult vgpu_end_capture(enum vgpu_function id, CUstream stream, CUgraph *graph) {
    bool per_thread = id == VGPU_cuStreamEndCapture_ptsz;
    bool was = vgpu_captures() && vgpu_is_capturing(stream, per_thread);
    CUresult result = REAL_AS(cuStreamEndCapture, id)(stream, graph);
    if (was && !vgpu_is_capturing(stream, per_thread)) take_back();
    return result;
}

void vgpu_capture_forget(void) {
    vgpu_captures_underway = 0;
    vgpu_pass_end_all();
}
