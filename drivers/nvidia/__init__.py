"""NVIDIA's cards behind the protocol that all vendors share; `open_backend` is the way in."""

from __future__ import annotations

from collections.abc import Sequence, Set
from pathlib import Path

from drivers.backend import DeviceBackend
from drivers.nvidia.backend import NvidiaBackend
from drivers.nvidia.kernel_log import KERNEL_LOG
from drivers.nvidia.nvml import Nvml
from drivers.nvidia.toolkit import CDI_DIRS, Toolkit
from drivers.nvidia.xids import HARMLESS_XIDS
from drivers.pci import SYSFS

__all__ = ["open_backend"]


def open_backend(
    *,
    library: Path | None = None,
    cdi_dirs: Sequence[Path] = CDI_DIRS,
    sysfs: Path = SYSFS,
    shares: int = 10,
    harmless_xids: Set[int] | None = None,
    kernel_log: Path = KERNEL_LOG,
) -> DeviceBackend:
    """Return the backend; the vendor's library is loaded at the first question, not here.

    `library`: the file of libnvidia-ml.so.1, by default wherever the dynamic linker finds it; `cdi_dirs`:
    where the container toolkit writes its specs; `sysfs`: where the kernel's /sys is; `shares`: tenants that
    a card takes; `harmless_xids`: XID errors that leave a card fit for work, by default those that programs bring
    about; `kernel_log`: where the kernel's log is read.

    Raises:
        ValueError: fewer than one share.
    """
    if shares < 1:
        raise ValueError(f"shares: {shares}, where a card takes at least 1")
    return NvidiaBackend(
        nvml=Nvml(library=library),
        toolkit=Toolkit(cdi_dirs),
        sysfs=sysfs,
        shares=shares,
        harmless_xids=HARMLESS_XIDS if harmless_xids is None else harmless_xids,
        kernel_log=kernel_log,
    )
