"""Tells whether this machine has a real NVIDIA card to test on: `make test-gpu` must not pass where there is none.

The simulated card answers to the same names; what tells them apart is the kernel driver's own file. Says what it
found, so that a report of the tests can be read without the machine.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path

import pynvml

KERNEL_DRIVER = Path("/proc/driver/nvidia/version")
# What the tests may hold at once: eight processes' contexts and the shares that they fill.
NEEDED_BYTES = 14 << 30


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


def describe_cards() -> Iterator[str]:
    """A line for the driver and one for each card, as NVML tells them, with what would disturb the tests."""
    pynvml.nvmlInit()
    try:
        yield f"driver {pynvml.nvmlSystemGetDriverVersion()}, CUDA {pynvml.nvmlSystemGetCudaDriverVersion()}"
        for index in range(pynvml.nvmlDeviceGetCount()):
            yield _describe(index, pynvml.nvmlDeviceGetHandleByIndex(index))
    finally:
        pynvml.nvmlShutdown()


def _describe(index: int, card: object) -> str:
    memory = pynvml.nvmlDeviceGetMemoryInfo(card)
    busy = len(pynvml.nvmlDeviceGetComputeRunningProcesses(card))
    words = [f"card {index}: {pynvml.nvmlDeviceGetName(card)}, {pynvml.nvmlDeviceGetUUID(card)}"]
    words.append(f"{memory.free >> 20} of {memory.total >> 20} MiB free")
    if busy:
        words.append(f"{busy} other process(es) on it: compute limits cannot be told from their work")
    if memory.free < NEEDED_BYTES:
        words.append(f"less than the {NEEDED_BYTES >> 20} MiB that the tests need")
    return "; ".join(words)


def main() -> int:
    """Exit status 0 and what was found, or 1 and the reason."""
    try:
        cards = count_cards()
        found = list(describe_cards())
    except (NoRealCardError, pynvml.NVMLError) as error:
        print(f"no real NVIDIA card to test on: {error}", file=sys.stderr)
        return 1
    print("\n".join([f"testing on {cards} real NVIDIA card(s)", *found]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
