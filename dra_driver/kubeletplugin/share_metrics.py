"""What each share uses of its card, for Prometheus: from the files through which libvgpu accounts for it.

The limits are ours; the accounting is the tenant's word. It is read as hostile input, and a figure that cannot be true
(more memory than the card has, a launch in the future) is left out, as is all that is not known: never 0 in its place.

Two hundred shares take some tens of milliseconds to read. So it goes in pieces, and calls are answered in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from dra_driver.kubeletplugin.checkpoint_format import PreparedClaim
from drivers.errors import ShareFileUnusable
from drivers.shim_contract import Limits, Usage, read_limits, read_usage

_LABELS = ("node", "driver", "namespace", "resourceclaim_name", "request", "share", "device_uuid")
_KINDS = ("context", "module", "buffer", "managed", "resident")
_NS = 1e9

_Labels = tuple[str, ...]


@dataclass(frozen=True)
class _Now:
    """The same moment on two clocks: seconds since the epoch, and nanoseconds of CLOCK_MONOTONIC."""

    epoch: float
    monotonic_ns: int


class _Families:
    """All series of shares, while they are put together."""

    def __init__(self) -> None:
        self.memory_limit = _gauge("memory_limit_bytes", "Memory of the card that a share may use now.")
        self.cores_limit = _gauge("cores_limit_ratio", "Compute of the card that a share may use now; no cap: absent.")
        self.host_limit = _gauge("host_memory_limit_bytes", "Host memory that a share may use beyond the card's.")
        self.memory_used = _gauge("memory_used_bytes", "Memory of the card that the share's living processes hold.")
        self.memory_peak = _gauge("memory_peak_bytes", "The most that the share has held at once.")
        self.memory_kind = _gauge("memory_kind_bytes", "Of the memory that is used, by what it is used for.", "kind")
        self.host_used = _gauge("host_memory_used_bytes", "Host memory that the share's living processes hold.")
        self.processes = _gauge("processes", "Processes of a share that live and use its card.")
        self.busy = _counter("busy_seconds", "How long kernels of the share have kept the card busy.")
        self.throttled = _counter("throttled_seconds", "How long the share was held back to keep to its cores.")
        self.launches = _counter("launches", "Kernels that the share has launched.")
        self.refused = _counter("refused_allocations", "Allocations that were refused because the share was full.")
        self.refused_bytes = _counter("refused_bytes", "Memory that was asked for in vain.")
        self.last_launch = _gauge("last_launch_timestamp_seconds", "When a living process launched a kernel last.")
        self.unreadable = _gauge("accounting_unreadable", "1 for a share whose accounting cannot be read.")

    def all(self) -> Iterator[Metric]:
        """Yield those that have a sample."""
        for family in vars(self).values():
            if family.samples:
                yield family


class ShareMetrics:
    """Reads the shares of all prepared claims."""

    def __init__(
        self,
        *,
        driver: str,
        node: str,
        claims: Callable[[], Sequence[PreparedClaim]],
        shares: Callable[[str], Path],
    ) -> None:
        """`shares` tells the folder of a share by its key."""
        self._driver = driver
        self._node = node
        self._claims = claims
        self._shares = shares

    def collect(self) -> Iterator[Metric | None]:
        """Read, and yield the families; None between two pieces of work."""
        families = _Families()
        for claim in self._claims():
            for share in claim.shares:
                # A whole card that is held twice (adminAccess) has one share for each request.
                labels = (self._node, self._driver, claim.namespace, claim.name, share.request)
                self._look(families, (*labels, share.key, share.device_uuid), self._shares(share.key))
                yield None
        yield from families.all()

    def _look(self, families: _Families, labels: _Labels, folder: Path) -> None:
        try:
            limits = read_limits(folder / "limits")
        except (OSError, ShareFileUnusable):
            # Of a vendor that enforces limits by itself, or about to be made or removed.
            return
        _add_limits(families, labels, limits)
        now = _Now(time.time(), time.clock_gettime_ns(time.CLOCK_MONOTONIC))
        try:
            _add_usage(families, labels, read_usage(folder / "usage"), limits, now)
        except ShareFileUnusable:
            families.unreadable.add_metric(labels, 1)


def _add_limits(families: _Families, labels: _Labels, limits: Limits) -> None:
    families.memory_limit.add_metric(labels, limits.memory_current_bytes)
    if limits.cores_current:
        families.cores_limit.add_metric(labels, limits.cores_current / limits.device_cores)
    if limits.swap_bytes:
        families.host_limit.add_metric(labels, limits.swap_bytes)


def _add_usage(families: _Families, labels: _Labels, usage: Usage, limits: Limits, now: _Now) -> None:
    living = [process for process in usage.processes if process.alive]
    card = limits.device_memory_bytes
    _add_possible(families.memory_used, labels, usage.live_bytes, most=card)
    _add_possible(families.memory_peak, labels, usage.peak_bytes, most=card)
    for kind in _KINDS:
        held = sum(getattr(process, f"{kind}_bytes") for process in living)
        _add_possible(families.memory_kind, (*labels, kind), held, most=card)
    if limits.swap_bytes:
        _add_possible(families.host_used, labels, sum(p.swap_bytes for p in living), most=limits.swap_bytes)
    families.processes.add_metric(labels, len(living))
    families.busy.add_metric(labels, usage.busy_ns / _NS)
    families.throttled.add_metric(labels, usage.throttled_ns / _NS)
    families.launches.add_metric(labels, usage.launches)
    families.refused.add_metric(labels, usage.refused)
    families.refused_bytes.add_metric(labels, usage.refused_bytes)
    last = max((process.last_launch_ns for process in living), default=0)
    if 0 < last <= now.monotonic_ns:
        families.last_launch.add_metric(labels, now.epoch - (now.monotonic_ns - last) / _NS)


def _add_possible(family: GaugeMetricFamily, labels: _Labels, value: int, *, most: int) -> None:
    if value <= most:
        family.add_metric(labels, value)


def _gauge(name: str, meaning: str, *more: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"vgpu_share_{name}", meaning, labels=(*_LABELS, *more))


def _counter(name: str, meaning: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"vgpu_share_{name}", meaning, labels=_LABELS)
