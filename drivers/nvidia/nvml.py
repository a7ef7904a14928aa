"""Asks NVIDIA's management library, so that no raw call, struct or error code of it gets any further.

With `nvml_events` the only module that imports pynvml. Results are frozen values; errors are mapped to
`drivers.errors` here, the cause chained. The library is initialised once, and again after a call told that it is no
longer usable (the driver was unloaded or exchanged under us).

Source: the NVML API reference (nvml.h), the return codes listed at each call.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pynvml

from drivers.errors import BackendUnavailable, DeviceLost, DeviceNotFound, DriverError
from drivers.model import NEEDS_RECOVERY
from drivers.pci import kernel_bus_id

Answer = TypeVar("Answer")

# Codes that speak of the library or the kernel driver, whatever was asked.
UNUSABLE = frozenset(
    {
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    }
)
ABSENT = frozenset(
    {
        pynvml.NVML_ERROR_NOT_FOUND,
        pynvml.NVML_ERROR_GPU_NOT_FOUND,
        pynvml.NVML_ERROR_INVALID_ARGUMENT,  # a UUID that no card of NVIDIA's can have
    }
)
# What an older card or driver answers where a newer one has a figure.
NO_SUCH_FEATURE = frozenset({pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND})

# What a driver can ask for; NONE is left out. P2P traffic alone does not concern a card's own work.
RECOVERY_ACTIONS = {
    pynvml.NVML_GPU_RECOVERY_ACTION_GPU_RESET: "reset the card",
    pynvml.NVML_GPU_RECOVERY_ACTION_NODE_REBOOT: "reboot the node",
    pynvml.NVML_GPU_RECOVERY_ACTION_DRAIN_AND_RESET: "end its work, then reset the card",
    pynvml.NVML_GPU_RECOVERY_ACTION_BUS_RESET: "reset the card's bus",
    pynvml.NVML_GPU_RECOVERY_ACTION_SYSTEM_REBOOT: "reboot the system",
}

ARCHITECTURES = {
    pynvml.NVML_DEVICE_ARCH_KEPLER: "Kepler",
    pynvml.NVML_DEVICE_ARCH_MAXWELL: "Maxwell",
    pynvml.NVML_DEVICE_ARCH_PASCAL: "Pascal",
    pynvml.NVML_DEVICE_ARCH_VOLTA: "Volta",
    pynvml.NVML_DEVICE_ARCH_TURING: "Turing",
    pynvml.NVML_DEVICE_ARCH_AMPERE: "Ampere",
    pynvml.NVML_DEVICE_ARCH_ADA: "Ada Lovelace",
    pynvml.NVML_DEVICE_ARCH_HOPPER: "Hopper",
    pynvml.NVML_DEVICE_ARCH_BLACKWELL: "Blackwell",
    pynvml.NVML_DEVICE_ARCH_RUBIN: "Rubin",
}


@dataclass(frozen=True)
class Versions:
    """Of the kernel driver, as NVIDIA spells it ("580.65.06"), and of the CUDA that it runs ("13.0")."""

    driver: str
    cuda: str


@dataclass(frozen=True)
class Ailment:
    """Why a card that answers is not fit for work, in one word and in a sentence."""

    code: str
    reason: str


@dataclass(frozen=True)
class Card:
    """One card that answers. `memory_bytes` is the whole card's, `pci_bus_id` as the kernel spells it.

    `numa_node` is the only node whose memory is near, None when there are several or none is known. `ailment` is what
    the driver itself says is wrong with the card.
    """

    index: int
    uuid: str
    model: str
    memory_bytes: int
    pci_bus_id: str
    architecture: str
    numa_node: int | None
    mig_enabled: bool
    ailment: Ailment | None = None


@dataclass(frozen=True)
class SilentCard:
    """A card that the driver counts but that does not answer, and why."""

    index: int
    reason: str


class Nvml:
    """The library, opened at the first question. May be asked from several threads."""

    def __init__(self, *, library: Path | None = None) -> None:
        """`library`: the file to load; by default the dynamic linker looks for libnvidia-ml.so.1."""
        self._library = library
        self._lock = threading.Lock()
        self._open = False
        self._loaded: ctypes.CDLL | None = None

    def versions(self) -> Versions:
        """Tell the versions of driver and CUDA.

        Raises:
            BackendUnavailable: the library or the driver does not answer.
        """
        with self.asking("versions"):
            return Versions(
                driver=str(pynvml.nvmlSystemGetDriverVersion()),
                cuda=spell_cuda_version(int(pynvml.nvmlSystemGetCudaDriverVersion_v2())),
            )

    def cards(self) -> tuple[Card | SilentCard, ...]:
        """Tell all cards in the library's order, which is that of the PCI bus.

        Raises:
            BackendUnavailable: the library or the driver does not answer.
        """
        with self.asking("number of cards"):
            count = int(pynvml.nvmlDeviceGetCount())
        return tuple(self._card_or_silence(index) for index in range(count))

    def answering(self) -> frozenset[str]:
        """Tell the UUIDs of the cards that answer: the shortest question there is.

        Raises:
            BackendUnavailable: the library or the driver does not answer.
        """
        with self.asking("number of cards"):
            count = int(pynvml.nvmlDeviceGetCount())
        uuids = []
        for index in range(count):
            with contextlib.suppress(DeviceLost, DeviceNotFound), self.asking(f"card {index}", otherwise=DeviceLost):
                uuids.append(str(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(index))))
        return frozenset(uuids)

    def card(self, uuid: str) -> Card:
        """Tell one card.

        Raises:
            DeviceNotFound: no card of this node has this UUID.
            DeviceLost: the card does not answer.
            BackendUnavailable: the library or the driver does not answer.
        """
        with self.asking(f"card {uuid}", otherwise=DeviceLost):
            return _describe(pynvml.nvmlDeviceGetHandleByUUID(uuid))

    def is_in_mig_mode(self, uuid: str) -> bool:
        """Tell whether a card is divided in hardware; asks the card no more than that. Raises as `card` does."""
        with self.asking(f"card {uuid}", otherwise=DeviceLost):
            return _mig_enabled(pynvml.nvmlDeviceGetHandleByUUID(uuid))

    @contextlib.contextmanager
    def reference(self) -> Iterator[None]:
        """Keep the library open for as long as the block runs, whoever closes it meanwhile: it counts who opened it.

        Raises:
            BackendUnavailable: the library or the driver is not there.
        """
        with self.asking("start"):
            pynvml.nvmlInit()
        try:
            yield
        finally:
            with contextlib.suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()

    def close(self) -> None:
        """Let go of the library. A later question opens it again."""
        with self._lock:
            self._shut()

    def _card_or_silence(self, index: int) -> Card | SilentCard:
        try:
            with self.asking(f"card {index}", otherwise=DeviceLost):
                return _describe(pynvml.nvmlDeviceGetHandleByIndex(index))
        except (DeviceLost, DeviceNotFound) as error:
            return SilentCard(index, str(error))

    @contextlib.contextmanager
    def asking(self, what: str, *, otherwise: type[DriverError] = BackendUnavailable) -> Iterator[None]:
        """Open the library if need be, and map its errors; `otherwise` is for those that are not clear."""
        try:
            self._ensure_open()
            yield
        except pynvml.NVMLError as error:
            if error.value in UNUSABLE:
                self.close()
                raise BackendUnavailable(f"NVML, {what}: {error}") from error
            kind = DeviceNotFound if otherwise is DeviceLost and error.value in ABSENT else otherwise
            raise kind(f"NVML, {what}: {error}") from error

    def _ensure_open(self) -> None:
        with self._lock:
            if self._open:
                return
            if self._library is not None and self._loaded is None:
                self._loaded = _load(self._library)
            pynvml.nvmlInit()
            self._open = True

    def _shut(self) -> None:
        if self._open:
            self._open = False
            # It says that it is not open: then there is nothing left to let go of.
            with contextlib.suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()


def spell_cuda_version(number: int) -> str:
    """Return "13.0" for 13000, "12.4" for 12040 (thousands and tens, cuda.h)."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _load(library: Path) -> ctypes.CDLL:
    """Load the file; pynvml, which asks for the soname, is then given the same one by the dynamic linker."""
    try:
        return ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise BackendUnavailable(f"NVML cannot be loaded: {error}") from error


def _describe(handle: object) -> Card:
    architecture = _feature(lambda: int(pynvml.nvmlDeviceGetArchitecture(handle)), 0)
    return Card(
        index=int(pynvml.nvmlDeviceGetIndex(handle)),
        uuid=str(pynvml.nvmlDeviceGetUUID(handle)),
        model=str(pynvml.nvmlDeviceGetName(handle)),
        memory_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
        pci_bus_id=_feature(lambda: _bus_id(handle), ""),
        architecture=ARCHITECTURES.get(architecture, ""),
        numa_node=_feature(lambda: _near_node(handle), None),
        mig_enabled=_mig_enabled(handle),
        ailment=_feature(lambda: _recovery_wanted(handle), None) or _feature(lambda: _remapping_failed(handle), None),
    )


def _recovery_wanted(handle: object) -> Ailment | None:
    """Tell what the driver wants done before the card is used again (its recovery action; drivers from 2024 on)."""
    try:
        (field,) = pynvml.nvmlDeviceGetFieldValues(handle, [pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION])
    except pynvml.NVMLError_InvalidArgument:
        # A driver from before there was such a field.
        return None
    if field.nvmlReturn != pynvml.NVML_SUCCESS:
        return None
    action = RECOVERY_ACTIONS.get(int(field.value.uiVal))
    return Ailment(NEEDS_RECOVERY, f"the driver asks for recovery: {action}") if action else None


def _remapping_failed(handle: object) -> Ailment | None:
    """Tell whether a row of memory went bad that could not be replaced (Ampere and later)."""
    _corrected, _uncorrected, _pending, failed = pynvml.nvmlDeviceGetRemappedRows(handle)
    return Ailment("row-remapping-failed", "a bad row of memory found no spare one to replace it") if failed else None


def _feature(ask: Callable[[], Answer], without: Answer) -> Answer:
    """Return what `ask` returns, or `without` where this card or driver has no such thing."""
    try:
        return ask()
    except pynvml.NVMLError as error:
        if error.value in NO_SUCH_FEATURE:
            return without
        raise


def _bus_id(handle: object) -> str:
    spelled = pynvml.nvmlDeviceGetPciInfo(handle).busId
    return kernel_bus_id(spelled.decode("ascii", "replace") if isinstance(spelled, bytes) else str(spelled))


def _mig_enabled(handle: object) -> bool:
    current, _pending = _feature(lambda: pynvml.nvmlDeviceGetMigMode(handle), (pynvml.NVML_DEVICE_MIG_DISABLE, 0))
    return bool(current == pynvml.NVML_DEVICE_MIG_ENABLE)


def _near_node(handle: object) -> int | None:
    """Return the one NUMA node in the card's set (64 nodes asked for), if it is one."""
    nodes = int(pynvml.nvmlDeviceGetMemoryAffinity(handle, 1, pynvml.NVML_AFFINITY_SCOPE_NODE)[0])
    return nodes.bit_length() - 1 if nodes.bit_count() == 1 else None
