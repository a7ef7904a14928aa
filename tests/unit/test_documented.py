"""The page on the node plugin names all that is measured, and the faults that count for nothing."""

from __future__ import annotations

import re
from pathlib import Path

from dra_driver.kubeletplugin import share_metrics
from dra_driver.kubeletplugin.metrics import Metrics
from drivers.backend import Fault
from drivers.nvidia.xids import HARMLESS_XIDS
from tests.support.backend import card

PAGE = (Path(__file__).resolve().parents[2] / "docs/node-plugin.md").read_text()
ROWS = set(re.findall(r"^\| `([a-z_]+)` \|", PAGE, re.MULTILINE))


def test_every_metric_has_a_row_and_every_row_a_metric() -> None:
    metrics = Metrics(driver="d")
    metrics.noticed(Fault("u", "c", "r"))
    metrics.show(node="n", pools=lambda: (), cards=lambda: [card(0)], claims=lambda: (), shares=Path)
    families = [*metrics.families(), *vars(share_metrics._Families()).values()]
    names = {family.name + ("_total" if family.type == "counter" else "") for family in families if family is not None}
    assert {row for row in ROWS if row.startswith("vgpu_")} == names


def test_the_xids_that_are_nobodys_fault_are_listed() -> None:
    (listed,) = re.findall(r"say nothing against the card\s+\(([0-9,\s-]+)\)", PAGE)
    spans = [span.strip().partition("-") for span in listed.split(",")]
    numbers = {number for first, _, last in spans for number in range(int(first), int(last or first) + 1)}
    assert numbers == HARMLESS_XIDS
