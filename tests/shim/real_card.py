"""The machine's own NVIDIA cards in place of simulated ones: the same tests, by the same path, on a real driver.

`make test-gpu` asks for it with HAMI_DRA_TEST_GPU=real; tools/realgpu.py has made sure then that there is such a card.
The witness is NVML, asked outside of the shim. Tests that no real card can be asked to do (its faults, its own time
line, its layout) are not marked `gpu` and do not run there.
"""

import dataclasses
import functools
import os
from pathlib import Path

import pynvml

from tests.simgpu import installation

# The loader finds the machine's own driver, and the cards are numbered as NVML numbers them.
ENVIRONMENT = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "PYTHONPATH": str(installation.CLIENT)}


def is_wanted() -> bool:
    """Whether the tests are to run on a real card."""
    choice = os.environ.get("HAMI_DRA_TEST_GPU", "simulated")
    assert choice in {"real", "simulated"}, f"HAMI_DRA_TEST_GPU is {choice!r}, not 'real' or 'simulated'"
    return choice == "real"


@dataclasses.dataclass(frozen=True)
class RealMachine(installation.Machine):
    """The cards of this machine."""

    def environment(self, **extra: str) -> dict[str, str]:
        """See Machine."""
        kept = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        return kept | ENVIRONMENT | extra

    def environment_at(self, place: str) -> dict[str, str]:
        """See Machine: the driver is where it always is."""
        kept = {name: value for name, value in os.environ.items() if name == "LD_LIBRARY_PATH"}
        return kept | {"CUDA_DEVICE_ORDER": ENVIRONMENT["CUDA_DEVICE_ORDER"]}

    @property
    def uuids(self) -> list[str]:
        """See Machine."""
        return _uuids()

    def memory_of(self, card: int) -> int:
        """See Machine."""
        return int(self.run(f"open_device({card}); print(check(driver.cuMemGetInfo())[1])"))


@functools.cache
def _uuids() -> list[str]:
    pynvml.nvmlInit()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return [str(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    finally:
        pynvml.nvmlShutdown()


def machine(folder: Path) -> RealMachine:
    """This machine; `folder` is for what a test puts beside it."""
    folder.mkdir()
    return RealMachine(folder)
