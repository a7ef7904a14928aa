"""The page on explanations names every code, every field of the record and every metric."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import CollectorRegistry
from pydantic.alias_generators import to_camel

from dra_driver.controller.waiting.metrics import WaitingMetrics
from dra_driver.controller.waiting.news import ANNOTATION
from dra_driver.controller.waiting.record import Record, Why
from dra_driver.controller.waiting.telling import ENDED

PAGE = (Path(__file__).resolve().parents[4] / "docs/explanations.md").read_text()
NAMED = set(re.findall(r"`([A-Za-z_]+)(?:\[\])?`", PAGE))


def test_every_code_and_every_field_is_named() -> None:
    assert {*map(str, Why), ENDED} <= NAMED
    assert {to_camel(name) for name in Record.model_fields} <= NAMED
    assert f"`{ANNOTATION}`" in PAGE


def test_every_metric_has_a_row_and_every_row_a_metric() -> None:
    registry = CollectorRegistry()
    WaitingMetrics(registry, waiting=lambda: {"CapacityShort": 1}, queued=lambda: 0)
    families = registry.collect()
    names = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    assert set(re.findall(r"^\| `(vgpu_[a-z_]+)` \|", PAGE, re.MULTILINE)) == names
