"""What Prometheus is told of each share, from files of which one is the tenant's word."""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dra_driver.kubeletplugin.checkpoint_format import PreparedClaim, PreparedShare, State
from dra_driver.kubeletplugin.metrics import Metrics
from dra_driver.kubeletplugin.share_metrics import ShareMetrics
from drivers import shim_abi as abi
from drivers.shim_contract import Limits, create_usage, write_limits
from drivers.shim_usage import FLOCK
from tests.support.backend import card

GIB = 1 << 30
SHARE = PreparedShare(
    key="share-1",
    request="gpu",
    pool="node-a-nvidia",
    device="gpu-0",
    share_id="s1",
    vendor="nvidia",
    device_uuid="GPU-1",
    memory=4 * GIB,
    cores=30,
    whole=False,
)
CLAIM = PreparedClaim(uid="u", namespace="team", name="train", state=State.COMPLETED, boot_id="b", shares=(SHARE,))
LABELS = {
    "node": "node-a",
    "driver": "vgpu.hami.io",
    "namespace": "team",
    "resourceclaim_name": "train",
    "request": "gpu",
    "share": "share-1",
    "device_uuid": "GPU-1",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The share's folder, as the plugin has made it."""
    folder = tmp_path / SHARE.key
    folder.mkdir()
    create_usage(folder / "usage", SHARE.key)
    write(folder)
    return folder


def write(folder: Path, **more: Any) -> None:
    figures: dict[str, Any] = {"cores_guaranteed": 30, "cores_current": 30, "device_memory_bytes": 16 * GIB, **more}
    limits = Limits(
        share_key=SHARE.key,
        device_uuid="GPU-1",
        memory_guaranteed_bytes=4 * GIB,
        memory_current_bytes=4 * GIB,
        **figures,
    )
    write_limits(folder / "limits", limits)


def told(folder: Path) -> dict[str, float]:
    """The series of the share, by name and kind."""
    metrics = ShareMetrics(
        driver="vgpu.hami.io", node="node-a", claims=lambda: [CLAIM], shares=lambda key: folder.parent / key
    )
    found = {}
    for family in metrics.collect():
        for sample in family.samples if family is not None else ():
            assert {name: value for name, value in sample.labels.items() if name != "kind"} == LABELS
            kind = sample.labels.get("kind", "")
            found[f"{sample.name.removeprefix('vgpu_share_')}{f' {kind}' if kind else ''}"] = sample.value
    return found


def poke(folder: Path, field: abi.Field, value: int, base: int = 0) -> None:
    with (folder / "usage").open("r+b") as file:
        file.seek(base + field.offset)
        file.write(struct.pack(field.format, value))


class Process:
    """A process of the share: a slot, and the lock that shows that it lives."""

    def __init__(self, folder: Path, slot: int, **figures: int) -> None:
        base = abi.USAGE_HEADER_SIZE + slot * abi.USAGE_SLOT_SIZE
        for name, value in {"state": abi.SLOT_CLAIMED, "pid": 7, **figures}.items():
            poke(folder, abi.USAGE_SLOT[name], value, base)
        self._file = os.open(folder / "usage", os.O_RDWR)
        lock = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, abi.USAGE_SIZE + slot, 1, 0)
        fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, lock)

    def end(self) -> None:
        os.close(self._file)


@pytest.fixture
def process(folder: Path) -> Iterator[Process]:
    process = Process(
        folder,
        3,
        charged_bytes=GIB,
        context_bytes=GIB // 4,
        buffer_bytes=GIB // 2,
        busy_ns=2_500_000_000,
        throttled_ns=500_000_000,
        launches=70,
        refused=2,
        refused_bytes=GIB,
        last_launch_ns=time.monotonic_ns() - 5_000_000_000,
    )
    yield process
    process.end()


def test_the_figures_of_a_share_are_told_in_base_units(folder: Path, process: Process) -> None:
    figures = told(folder)
    launched = figures.pop("last_launch_timestamp_seconds")
    assert time.time() - launched == pytest.approx(5, abs=2)
    assert figures == {
        "memory_limit_bytes": 4 * GIB,
        "cores_limit_ratio": 0.3,
        "memory_used_bytes": GIB,
        "memory_peak_bytes": 0,
        "memory_kind_bytes context": GIB // 4,
        "memory_kind_bytes module": 0,
        "memory_kind_bytes buffer": GIB // 2,
        "memory_kind_bytes managed": 0,
        "memory_kind_bytes resident": 0,
        "processes": 1,
        "busy_seconds_total": 2.5,
        "throttled_seconds_total": 0.5,
        "launches_total": 70,
        "refused_allocations_total": 2,
        "refused_bytes_total": GIB,
    }


def test_a_process_that_has_died_holds_nothing_and_what_it_did_still_counts(folder: Path, process: Process) -> None:
    process.end()
    process._file = os.open(os.devnull, os.O_RDONLY)
    figures = told(folder)
    assert (figures["memory_used_bytes"], figures["processes"], figures["busy_seconds_total"]) == (0, 0, 2.5)
    assert "last_launch_timestamp_seconds" not in figures


def test_a_share_without_a_cap_has_no_limit_of_compute(folder: Path) -> None:
    write(folder, cores_guaranteed=0, cores_current=0)
    assert "cores_limit_ratio" not in told(folder)


def test_host_memory_is_told_where_a_share_may_use_it(folder: Path) -> None:
    write(folder, swap_bytes=2 * GIB)
    process = Process(folder, 0, swap_bytes=GIB)
    figures = told(folder)
    process.end()
    assert (figures["host_memory_limit_bytes"], figures["host_memory_used_bytes"]) == (2 * GIB, GIB)


def test_figures_that_cannot_be_true_are_left_out_and_hide_no_others(folder: Path) -> None:
    poke(folder, abi.USAGE["peak_bytes"], 2**64 - 1)
    future = time.monotonic_ns() + 10**15
    process = Process(folder, 0, charged_bytes=2**63, buffer_bytes=2**64 - 1, launches=9, last_launch_ns=future)
    figures = told(folder)
    process.end()
    assert not {"memory_used_bytes", "memory_peak_bytes", "memory_kind_bytes buffer"} & figures.keys()
    assert "last_launch_timestamp_seconds" not in figures
    assert (figures["launches_total"], figures["memory_kind_bytes context"]) == (9, 0)


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\xff" * abi.USAGE_SIZE])
def test_accounting_that_cannot_be_read_is_told_as_that_and_the_limits_stay(folder: Path, content: bytes) -> None:
    (folder / "usage").write_bytes(content)
    assert told(folder) == {"memory_limit_bytes": 4 * GIB, "cores_limit_ratio": 0.3, "accounting_unreadable": 1}


def test_a_share_without_files_has_no_series(tmp_path: Path) -> None:
    assert told(tmp_path / SHARE.key) == {}


def test_many_series_are_written_in_small_parts_that_make_one_whole(tmp_path: Path) -> None:
    cards = [card(number) for number in range(250)]
    metrics = Metrics(driver="vgpu.hami.io")
    metrics.show(node="n", pools=lambda: (), cards=lambda: cards, claims=lambda: (), shares=tmp_path.joinpath)
    parts = list(metrics.text())
    assert max(part.count(b"\n") for part in parts) < 150
    assert b"".join(parts).count(b"# HELP vgpu_card_healthy ") == 1
    families = {family.name: family for family in text_string_to_metric_families(b"".join(parts).decode())}
    assert len(families["vgpu_card_healthy"].samples) == len(cards)
