/*
 * What both simulated libraries share: attaching to the state, accounting, the time line, visibility.
 */
#ifndef SIMGPU_CORE_H
#define SIMGPU_CORE_H

#include "simgpu_state.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define SIMGPU_NO_SLOT (-1)

/* The mapped state, or NULL before simgpu_attach succeeded. */
extern struct simgpu_state *simgpu;
extern int simgpu_slot;
/* SIMGPU_TIMELINE=off: calls only count. */
extern bool simgpu_counting_only;

/* Maps the state. Returns 0 or a negative errno: -ENOENT no driver, -EPROTO another layout. */
int simgpu_attach(void);
/* Takes a process slot. Returns 0, or -ENOSPC when all are in use. */
int simgpu_take_slot(void);
/* Grows the file by `bytes` for memory that processes share and maps it. NULL when it cannot. */
void *simgpu_share(uint64_t bytes, void *at, uint64_t *offset);
/* Maps shared memory that another process offered. NULL when it cannot. */
void *simgpu_map_shared(uint64_t offset, uint64_t bytes);
/* Gives the pages of shared memory back to the machine. */
void simgpu_unshare(uint64_t offset, uint64_t bytes);

/* Whether the process of a slot lives; *pid is its id in the caller's namespace, 0 if not visible. */
bool simgpu_slot_lives(int slot, pid_t *pid);
/* The lock of a slot for whoever clears up after its dead owner. */
bool simgpu_lock_slot(int slot);
void simgpu_unlock_slot(int slot);
/* Whether a dead process's memory is still on the card. */
bool simgpu_lingers(int slot);
/* Releases what dead processes held. */
void simgpu_reap(void);
/* In a forked child. */
void simgpu_forget_reaping(void);
/* Charges this process. Returns false, and changes nothing, when the card is too full. */
bool simgpu_charge(int card, uint64_t bytes);
void simgpu_discharge(int card, uint64_t bytes);

uint64_t simgpu_now(void);
/* Puts `duration` ns of work in the card's queue, not before `ready`. Returns when it will be done. */
uint64_t simgpu_occupy(int card, uint64_t ready, uint64_t duration);
/* Sleeps until `moment` (CLOCK_MONOTONIC ns). */
void simgpu_wait_until(uint64_t moment);
/* Busy ns of one slot's work on a card within [from, to). */
uint64_t simgpu_busy_between(int slot, int card, uint64_t from, uint64_t to);

/* Fills `cards` with the state's card numbers that this process may open, in PCI order. */
int simgpu_visible_cards(int cards[SIMGPU_MAX_CARDS]);
/* Whether the driver's control node can be opened. */
bool simgpu_driver_reachable(void);

/* The planned error of this call, or 0. `function` may carry a version suffix. */
int simgpu_planned_error(const char *function);

#endif
