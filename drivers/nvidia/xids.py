"""Which of the driver's XID errors say nothing against the card, and what people call the others.

A tenant who could take a card from everybody with a bad pointer would be a worse fault than any of these. So what the
catalogue answers by restarting the program, or by nothing at all, is held against the program alone. Every XID that is
not listed makes its card unfit for new work, for the meaning of new ones is not known beforehand.

Where a card needs more than the catalogue's first step, the driver asks for it as a state of its own (the recovery
action, XID 154), and that is what counts then.

Source: NVIDIA, "Analyzing Xid Errors with the Xid Catalog", immediate actions and trigger conditions
(docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html), as it was in 2026.
"""

from __future__ import annotations

# The program is to be restarted: it, or what it had the card do, has failed.
_OF_A_PROGRAM = frozenset(
    {
        *(8, 11, 13, 25, 31, 69),  # a channel stopped, bad commands, exceptions, bad addresses
        # 32 may also come of a bad PCIe link; a program that spoils its own command buffer brings it about too.
        *(32, 80),
        *(39, 40, 41, 70, 71, 72, 75, 76, 77, 85, *range(126, 136)),  # the copy engines
        *(60, 68, 82, 83, 84, 86, 88, 89, *range(96, 106), 139),  # video, pictures, optical flow
        # The catalogue resets the card for it; a program whose kernel does not yield brings it about, and where the
        # card has suffered from it, drivers from R570 on ask for the reset.
        109,
    }
)

# Nothing is to be done: the card goes on.
_OF_NO_CONSEQUENCE = frozenset(
    {
        *(43, 44, 45),  # the end, or the cleaning up, of a program that has failed or was ended
        *(37, 38, 66, 67),  # complaints of the driver's firmware
        63,  # a bad page or row was noted for replacement (64: it could not be)
        92,  # many corrected single-bit errors
        93,  # the card's notebook may not be written as often as wanted
        *(14, 106, 107),  # tests and injected errors
        121,  # corrected errors on the way to the processor
        137,  # a forbidden access by way of NVLink: a program's
        141,  # CUDA's fast path
        154,  # the recovery action has changed: it is asked for as a state
        *(157, 160, 161),  # nothing left to repair with; a channel was taken out of service
        *(162, 163, 164, 165),  # the smoothing of power
    }
)

HARMLESS_XIDS = _OF_A_PROGRAM | _OF_NO_CONSEQUENCE

# What people ask first; the number alone goes for the others.
MEANINGS = {
    46: "the card stopped processing",
    48: "uncorrected double-bit memory error",
    62: "internal micro-controller halted",
    64: "a bad page or row of memory could not be noted for replacement",
    74: "NVLink error",
    79: "the card has fallen off the bus",
    94: "contained memory error",
    95: "uncontained memory error",
    110: "security fault",
    119: "the card's system processor does not answer",
    120: "error of the card's system processor",
    136: "NVLink training failed",
    140: "a memory error that the driver could not recover from",
    143: "the card could not be initialised",
    156: "a part of the card was taken out of service until its reset",
    158: "the card ran into a fatal time-out",
    167: "fatal PCIe time-out",
    171: "uncorrectable error of the card's memory",
    172: "uncorrectable error of the card's internal memory",
}


def spell(xid: int) -> str:
    """Put an XID error in words."""
    meaning = MEANINGS.get(xid)
    return f"XID {xid}: {meaning}" if meaning else f"XID {xid}"
