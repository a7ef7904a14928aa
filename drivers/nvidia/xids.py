"""Which of the driver's XID errors say nothing against the card, because a program brought them about itself.

A tenant who could take a card from everybody with a bad pointer would be a worse fault than any of these. Every XID
that is not listed makes its card unfit for new work, for the meaning of new ones is not known beforehand.
Source: NVIDIA, "XID Errors", the table of causes and the catalogue (docs.nvidia.com/deploy/xid-errors).
"""

from __future__ import annotations

HARMLESS_XIDS = frozenset(
    {
        8,  # a channel stopped: restart the program
        11,  # bad command stream: restart the program
        13,  # exception in the graphics engine: out-of-bounds access, bad instruction
        31,  # page fault: the program used an address that is not its own
        32,  # bad command stream
        43,  # a channel was stopped after an error of its program
        45,  # clean-up after a program that was ended or has failed
        63,  # a bad page or row was noted for replacement: the card goes on
        68,  # exception in the video engine
        69,  # error in the graphics engine's class
        92,  # many corrected single-bit errors
        109,  # a context switch took too long
        154,  # the recovery action has changed: it is asked for as a state
    }
)

# What people ask first; the number alone goes for the others.
MEANINGS = {
    48: "uncorrected double-bit memory error",
    62: "internal micro-controller halted",
    64: "a bad page or row of memory could not be noted for replacement",
    74: "NVLink error",
    79: "the card has fallen off the bus",
    94: "contained memory error",
    95: "uncontained memory error",
    119: "the card's system processor does not answer",
    120: "error of the card's system processor",
}


def spell(xid: int) -> str:
    """Put an XID error in words."""
    meaning = MEANINGS.get(xid)
    return f"XID {xid}: {meaning}" if meaning else f"XID {xid}"
