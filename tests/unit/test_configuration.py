"""The node's configuration file: what it may say, and how a wrong one is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from dra_driver.configuration import CardFacts, CardMode, NodeConfig, read_configuration
from dra_driver.errors import SettingsRejected

HEAD = "apiVersion: vgpu.hami.io/v1alpha1\nkind: NodeConfig\n"
CARD = CardFacts(uuid="GPU-1", index=1, vendor="nvidia", model="NVIDIA L4", pci_bus_id="0000:01:00.0")


def read(tmp_path: Path, text: str) -> NodeConfig:
    file = tmp_path / "node.yaml"
    file.write_text(HEAD + text)
    return read_configuration(file)


def test_a_file_without_cards_shares_all_of_them(tmp_path: Path) -> None:
    assert read(tmp_path, "").cards.treatment(CARD, "node-a").mode is CardMode.SHARED


def test_quantities_are_read_in_bytes(tmp_path: Path) -> None:
    slots = read(tmp_path, "cards: {mode: slots, slots: {number: 4, memory: 3Gi}}").cards.slots
    assert slots is not None
    assert (slots.number, slots.memory, slots.cores) == (4, 3 << 30, None)


@pytest.mark.parametrize(
    "match", ["index: [1, 2]", "uuid: [GPU-1]", "model: ['*L4*']", "pciBusID: ['0000:01:*']", "node: ['node-*']"]
)
def test_the_first_rule_that_fits_a_card_decides(tmp_path: Path, match: str) -> None:
    rules = f"""
cards:
  rules:
    - {{match: {{index: [7]}}, mode: whole}}
    - {{match: {{{match}}}, mode: excluded}}
    - {{match: {{}}, mode: whole}}
"""
    assert read(tmp_path, rules).cards.treatment(CARD, "node-a").mode is CardMode.EXCLUDED


def test_all_that_a_rule_names_must_fit(tmp_path: Path) -> None:
    cards = read(tmp_path, "cards: {rules: [{match: {index: [1], node: [other]}, mode: excluded}]}").cards
    assert cards.treatment(CARD, "node-a").mode is CardMode.SHARED
    assert cards.treatment(CARD, "other").mode is CardMode.EXCLUDED


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("cards: {mod: shared}", "cards.mod"),
        ("cards: {mode: halved}", "cards.mode"),
        ("cards: {rules: [{match: {index: [0]}, mode: slots}]}", "cards.rules[0]"),
        ("cards: {rules: [{match: {index: [zero]}}]}", "cards.rules[0].match.index[0]"),
        ("cards: {rules: [{mode: whole}]}", "cards.rules[0].match"),
        ("cards: {mode: slots, slots: {number: 0}}", "cards.slots.number"),
        ("cards: {mode: slots, slots: {memory: much}}", "cards.slots.memory"),
        ("cards: {mode: slots, slots: {number: 3, cores: 50}}", "cards.slots"),
        ("cards: {mode: slots, slots: {cores: 50}}", "cards.slots"),
        ("cards: {mode: whole, shares: 3}", "cards"),
        ("card: {}", "card"),
        ("settings: [a]", "settings"),
    ],
)
def test_a_wrong_field_is_named_by_its_path(tmp_path: Path, text: str, path: str) -> None:
    with pytest.raises(SettingsRejected) as caught:
        read(tmp_path, text)
    assert f"node.yaml: {path}: " in str(caught.value)


@pytest.mark.parametrize("content", ["", "kind: [", "\x00", "[]", "kind: NodeConfig", "a: &a [*a]"])
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "node.yaml"
    file.write_text(content)
    with pytest.raises(SettingsRejected, match=r"node\.yaml"):
        read_configuration(file)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsRejected, match="No such file"):
        read_configuration(tmp_path / "node.yaml")
