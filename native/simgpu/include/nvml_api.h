/*
 * What the parts of the simulated NVML share: the handle of a card and the checks at the door.
 */
#ifndef SIMGPU_NVML_API_H
#define SIMGPU_NVML_API_H

#define NVML_NO_UNVERSIONED_FUNC_DEFS
#include <nvml.h>

#include "simgpu_core.h"

struct nvmlDevice_st {
    int card;
    unsigned index;
};

#define SIMGPU_NEED(condition, error)                                                                        \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            return (error);                                                                                  \
    } while (0)

/* First line of a call that needs no device. */
#define SIMGPU_ENTER()                                                                                       \
    do {                                                                                                     \
        nvmlReturn_t refused = simgpu_nvml_refusal(__func__);                                          \
        if (refused != NVML_SUCCESS)                                                                         \
            return refused;                                                                                  \
    } while (0)

/* First line of a call about a device: initialised, not planned to fail, a real handle, not lost. */
#define SIMGPU_ENTER_DEVICE(device)                                                                          \
    do {                                                                                                     \
        SIMGPU_ENTER();                                                                                      \
        SIMGPU_NEED(simgpu_is_device(device), NVML_ERROR_INVALID_ARGUMENT);                                  \
        SIMGPU_NEED(!simgpu->cards[(device)->card].lost, NVML_ERROR_GPU_IS_LOST);                            \
    } while (0)

/* A plain number about the card: one line each, the checks are the same. */
#define SIMGPU_NUMBER(function, type, value)                                                                 \
    nvmlReturn_t function(nvmlDevice_t device, type *out) {                                                  \
        SIMGPU_ENTER_DEVICE(device);                                                                         \
        SIMGPU_NEED(out, NVML_ERROR_INVALID_ARGUMENT);                                                       \
        *out = (type)(value);                                                                                \
        return NVML_SUCCESS;                                                                                 \
    }

extern unsigned simgpu_nvml_count;
extern struct nvmlDevice_st simgpu_nvml_devices[SIMGPU_MAX_CARDS];

nvmlReturn_t simgpu_nvml_refusal(const char *function);
/* Copies a text out; NVML_ERROR_INSUFFICIENT_SIZE when it does not fit. */
nvmlReturn_t simgpu_give_text(const char *text, char *out, unsigned length);
bool simgpu_is_device(nvmlDevice_t device);
static inline const struct simgpu_card_facts *simgpu_facts(nvmlDevice_t device) {
    return &simgpu->cards[device->card].facts;
}
/* Busy share of a card in percent over the last sampling period, rounded. */
unsigned simgpu_utilization(int card);

#endif
