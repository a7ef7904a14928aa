"""NVIDIA: the real backend on the simulated libnvidia-ml.so.1, and the CDI spec that the toolkit would write."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import simgpuctl

from drivers.model import Device
from tests.contract.backend_process import BackendProcess
from tests.simgpu import installation

DRIVER_NOT_LOADED = 9


class NvidiaRig:
    """Two cards of 16 GiB under one folder."""

    def __init__(self, root: Path, *, cards: Mapping[str, Any] | None = None) -> None:
        """`cards`: a description of other cards, as the simulation's card file has it."""
        self._root = root
        description = root / "cards.json"
        description.write_text(json.dumps(cards or {}))
        self._machine = installation.make(root / "machine", description)
        self._spec = self._machine.root / "cdi/nvidia.json"
        self._whole_spec = self._spec.read_text()
        self._open: list[BackendProcess] = []

    def open(self) -> BackendProcess:
        """See Rig."""
        return self._start(library=self._machine.root / "lib/libnvidia-ml.so.1")

    def open_without_library(self) -> BackendProcess:
        """See Rig. The linker's own search would find a real card's library, so a path is given."""
        return self._start(library=self._machine.root / "nowhere/libnvidia-ml.so.1")

    def lose(self, uuid: str) -> None:
        """See Rig."""
        simgpuctl.lose(self._machine.state, self._index(uuid))

    def restore(self, uuid: str) -> None:
        """See Rig."""
        simgpuctl.restore(self._machine.state, self._index(uuid))

    def raise_xid(self, uuid: str, number: int) -> None:
        """Let the driver report an XID error of a card."""
        simgpuctl.xid(self._machine.state, self._index(uuid), number)

    def log_xid(self, device: Device, number: int) -> None:
        """Have an XID error of a card in the kernel's log, as from just before now."""
        line = f"4,1,{int(time.monotonic() * 1e6)},-;NVRM: Xid (PCI:{device.pci_bus_id[:-2]}): {number}, pid=1\n"
        with self._kernel_log.open("a") as log:
            log.write(line)

    def break_memory(self, uuid: str, *, uncorrected: int = 0, corrected: int = 0) -> None:
        """Let a card's memory have errors."""
        simgpuctl.add_ecc_errors(self._machine.state, self._index(uuid), corrected=corrected, uncorrected=uncorrected)

    def unload_driver(self) -> None:
        """See Rig."""
        simgpuctl.fail(self._machine.state, "nvmlDeviceGetCount", DRIVER_NOT_LOADED)

    def fail(self, function: str, code: int) -> None:
        """Let the next call of a function of NVML answer with a code."""
        simgpuctl.fail(self._machine.state, function, code)

    @contextmanager
    def without_driver(self) -> Iterator[None]:
        """Take the driver's control node away for a while: a process that starts meanwhile finds no driver."""
        node = self._machine.root / "dev/nvidiactl"
        away = node.rename(node.with_name("nvidiactl.away"))
        try:
            yield
        finally:
            away.rename(node)

    def hide_from_runtime(self, uuid: str) -> None:
        """See Rig."""
        spec = json.loads(self._whole_spec)
        spec["devices"] = [device for device in spec["devices"] if device["name"] != uuid]
        self._spec.write_text(json.dumps(spec))

    def remove_runtime(self) -> None:
        """See Rig."""
        self._spec.unlink()

    def repair_runtime(self) -> None:
        """See Rig."""
        self._spec.write_text(self._whole_spec)

    def log(self) -> str:
        """See Rig."""
        return self._log.read_text()

    def end(self) -> None:
        """See Rig."""
        for process in self._open:
            process.end()

    @property
    def _kernel_log(self) -> Path:
        return self._root / "kmsg"

    @property
    def _log(self) -> Path:
        return self._root / "backend.log"

    def _index(self, uuid: str) -> int:
        return next(card.index for card in self._machine.show().cards if card.uuid == uuid)

    def _start(self, *, library: Path) -> BackendProcess:
        sysfs = self._root / "sys"
        settings = {
            "library": library,
            "cdi_dirs": (self._spec.parent,),
            "sysfs": sysfs,
            "kernel_log": self._kernel_log,
        }
        environment = {"SIMGPU_STATE": str(self._machine.state), "SIMGPU_DEV": str(self._machine.root / "dev")}
        process = BackendProcess("drivers.nvidia", settings, environment, self._log)
        self._open.append(process)
        return process
