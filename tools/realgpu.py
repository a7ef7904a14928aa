"""Tells whether this machine has a real NVIDIA card: `make test-gpu` must not pass where there is none.

The simulated card answers to the same names; what tells them apart is the kernel driver's own file.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

KERNEL_DRIVER = Path("/proc/driver/nvidia/version")


class NoRealCardError(Exception):
    """There is no real card to test on; the message says what is missing."""


def count_cards(kernel_driver: Path = KERNEL_DRIVER, library: str = "libcuda.so.1") -> int:
    """How many cards the driver offers, at least one. Raises NoRealCardError."""
    if not kernel_driver.exists():
        raise NoRealCardError(f"the NVIDIA kernel driver is not loaded ({kernel_driver} is missing)")
    try:
        cuda = ctypes.CDLL(library)
    except OSError as error:
        raise NoRealCardError(f"{library} cannot be loaded: {error}") from error
    count = ctypes.c_int(0)
    status = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count))
    if status != 0 or count.value == 0:
        raise NoRealCardError(f"CUDA finds no card (error {status}, {count.value} cards)")
    return count.value


def main() -> int:
    """Exit status 0 and the number of cards, or 1 and the reason."""
    try:
        cards = count_cards()
    except NoRealCardError as error:
        print(f"no real NVIDIA card to test on: {error}", file=sys.stderr)
        return 1
    print(f"testing on {cards} real NVIDIA card(s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
