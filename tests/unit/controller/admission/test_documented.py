"""The page on admission names all that is refused, warned about and measured."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from dra_driver.controller.admission.features import Feature
from dra_driver.controller.admission.metrics import AdmissionMetrics
from dra_driver.controller.admission.reach import Caution
from dra_driver.controller.admission.rules import Reason

PAGE = (Path(__file__).parents[4] / "docs/admission.md").read_text(encoding="utf-8")


def test_every_label_that_allows_something_is_named() -> None:
    assert set(re.findall(r"`(vgpu\.hami\.io/allow-[a-z-]+)=true`", PAGE)) == {feature.label for feature in Feature}


def test_every_reason_is_named() -> None:
    assert all(f"`{reason.value}`" in PAGE for reason in [*Reason, *Caution])


def test_every_metric_has_a_row_and_every_row_a_metric() -> None:
    registry = CollectorRegistry()
    AdmissionMetrics(registry)
    names = {family.name + ("_total" if family.type == "counter" else "") for family in registry.collect()}
    assert set(re.findall(r"^\| `(vgpu_[a-z_]+)` \|", PAGE, re.MULTILINE)) == names
