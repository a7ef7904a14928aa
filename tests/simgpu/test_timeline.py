"""Kernels take time on the card, one after the other, and everybody can see who took it."""

from tests.simgpu import installation
from tests.simgpu.installation import Installation

SPIN = "open_device()\nspin = Kernel('spin_ns', ctypes.c_uint64)\n"
BUSY_FOR = (
    SPIN + "ready()\nrelease()\nready()\nend = time.monotonic() + {seconds}\ncount = 0\n"
    "while time.monotonic() < end:\n"
    "    check(spin.launch({ns}))\n    check(driver.cuCtxSynchronize())\n    count += 1\n"
    "print(count)"
)


def test_events_measure_the_duration_of_a_kernel(machine: Installation) -> None:
    output = machine.run(
        SPIN + "start, end = check(driver.cuEventCreate(0)), check(driver.cuEventCreate(0))\n"
        "check(driver.cuEventRecord(start, 0))\ncheck(spin.launch(30_000_000))\ncheck(driver.cuEventRecord(end, 0))\n"
        "print(int(driver.cuEventQuery(end)[0]))\ncheck(driver.cuEventSynchronize(end))\n"
        "print(check(driver.cuEventElapsedTime(start, end)))"
    )
    pending, elapsed = output.split()
    assert int(pending) == 600
    assert 30.0 <= float(elapsed) < 31.0


def test_two_processes_split_the_card(machine: Installation) -> None:
    clients = [machine.start(BUSY_FOR.format(seconds=2, ns=5_000_000)) for _ in range(2)]
    for client in clients:
        installation.await_ready(client)
    for client in clients:
        installation.resume(client)
    counts = [int(installation.finish(client)) for client in clients]
    assert sum(counts) <= 405
    assert min(counts) > 0.35 * sum(counts)


def test_a_kernel_waits_for_the_other_process(machine: Installation) -> None:
    first = machine.start(SPIN + "check(spin.launch(1_500_000_000))\nready()\nrelease()")
    installation.await_ready(first)
    output = machine.run(
        SPIN + "start = time.monotonic()\ncheck(spin.launch(1000))\ncheck(driver.cuCtxSynchronize())\n"
        "print(time.monotonic() - start)"
    )
    installation.finish(first)
    assert float(output) > 0.3


def test_work_of_a_killed_process_leaves_the_queue(machine: Installation) -> None:
    first = machine.start(SPIN + "check(spin.launch(3_600_000_000_000))\nready()\nrelease()")
    installation.await_ready(first)
    assert machine.show().cards[0].queue_ns > 3_000_000_000_000
    installation.kill(first)
    assert machine.run(SPIN + "check(spin.launch(1000))\ncheck(driver.cuCtxSynchronize())\nprint('done')") == "done"


def test_nvml_measures_utilisation_of_card_and_process(machine: Installation) -> None:
    client = machine.start(
        SPIN + "for _ in range(60):\n"
        "    check(spin.launch(10_000_000))\n    check(driver.cuCtxSynchronize())\n    time.sleep(0.01)\n"
        "nvml.nvmlInit()\ncard = nvml.nvmlDeviceGetHandleByIndex(0)\n"
        "process, = nvml.nvmlDeviceGetProcessUtilization(card, 0)\n"
        "print(nvml.nvmlDeviceGetUtilizationRates(card).gpu, process.smUtil)"
    )
    card, process = map(int, installation.finish(client).split())
    assert 35 <= card <= 55
    assert 35 <= process <= 55


def test_a_graph_and_a_captured_stream_do_the_same_work(machine: Installation) -> None:
    output = machine.run(
        SPIN + "stream = check(driver.cuStreamCreate(1))\n"
        "check(driver.cuStreamBeginCapture(stream, driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL))\n"
        "for _ in range(3): check(spin.launch(10_000_000, stream=stream))\n"
        "graph = check(driver.cuStreamEndCapture(stream))\n"
        "print(check(driver.cuGraphGetNodes(graph, 8))[1])\n"
        "work = check(driver.cuGraphInstantiate(graph, 0))\n"
        "start = time.monotonic()\ncheck(driver.cuGraphLaunch(work, stream))\n"
        "check(driver.cuStreamSynchronize(stream))\n"
        "print(time.monotonic() - start)"
    )
    nodes, elapsed = output.split()
    assert int(nodes) == 3
    assert 0.03 <= float(elapsed) < 1


def test_a_host_function_runs_after_the_work_before_it(machine: Installation) -> None:
    output = machine.run(
        SPIN + "library = ctypes.CDLL('libcuda.so.1')\ncalled = []\n"
        "function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: called.append(time.monotonic()))\n"
        "start = time.monotonic()\ncheck(spin.launch(50_000_000))\n"
        "assert library.cuLaunchHostFunc(None, function, None) == 0\nassert not called\n"
        "check(driver.cuCtxSynchronize())\nprint(called[0] - start)"
    )
    assert 0.05 <= float(output) < 1


def test_counting_only_mode_takes_no_time(machine: Installation) -> None:
    client = machine.start(
        SPIN + "check(spin.launch(3_600_000_000_000))\ncheck(driver.cuCtxSynchronize())\n"
        "check(driver.cuMemFree(check(driver.cuMemAlloc(GIB))))\nready()\nrelease()",
        SIMGPU_TIMELINE="off",
    )
    installation.await_ready(client)
    (process,) = machine.show().cards[0].processes
    installation.finish(client)
    assert process.launches == 1
    assert process.busy_ns == 0
