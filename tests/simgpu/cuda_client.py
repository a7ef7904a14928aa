"""What the client programs of these tests share: the vendor's own Python bindings, checked calls."""

import ctypes
import sys
import time
from pathlib import Path
from typing import Any

import pynvml as nvml
from cuda.bindings import driver

KERNELS = Path(__file__).resolve().parents[2] / "native" / "simgpu" / "kernels"
GIB = 1 << 30
MIB = 1 << 20
__all__ = [
    "GIB",
    "KERNELS",
    "MIB",
    "Kernel",
    "check",
    "ctypes",
    "driver",
    "nvml",
    "open_device",
    "ready",
    "release",
    "time",
]


def check(result: tuple[Any, ...]) -> Any:
    """The value of a call that must succeed."""
    assert int(result[0]) == 0, result[0]
    return result[1] if len(result) == 2 else result[1:]


def open_device(ordinal: int = 0) -> Any:
    """Starts the driver, makes the primary context of a device current, returns the device."""
    check(driver.cuInit(0))
    device = check(driver.cuDeviceGet(ordinal))
    check(driver.cuCtxSetCurrent(check(driver.cuDevicePrimaryCtxRetain(device))))
    return device


class Kernel:
    """A kernel of native/simgpu/kernels, loaded from its PTX."""

    def __init__(self, name: str, *kinds: Any) -> None:
        """`kinds` are the ctypes of the parameters."""
        self._kinds = kinds
        image = (KERNELS / f"{name}.ptx").read_bytes() + b"\0"
        self._module = check(driver.cuModuleLoadData(image))
        self._function = check(driver.cuModuleGetFunction(self._module, name.encode()))

    @property
    def function(self) -> Any:
        """The driver's handle."""
        return self._function

    def launch(self, *values: int, stream: Any = 0) -> tuple[Any, ...]:
        """Launches one block; returns the raw result."""
        parameters = (values, self._kinds)
        result: tuple[Any, ...] = driver.cuLaunchKernel(self._function, 1, 1, 1, 32, 1, 1, 0, stream, parameters, 0)
        return result


def ready(*words: object) -> None:
    """Tells the test that this point is reached."""
    print(*words, flush=True)


def release() -> None:
    """Waits for the test."""
    sys.stdin.readline()
