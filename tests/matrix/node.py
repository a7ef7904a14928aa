"""The node under test: what is configured and what is published."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.stack.stack import Stack
from tests.waiting import eventually

Wire = dict[str, Any]


@dataclass(frozen=True)
class Node:
    """A stack, and the file that says what becomes of its cards."""

    stack: Stack
    file: Path

    @staticmethod
    def write(file: Path, cards: Mapping[str, Any]) -> None:
        """Write a configuration file with these cards."""
        file.write_text(json.dumps({"apiVersion": "vgpu.hami.io/v1alpha1", "kind": "NodeConfig", "cards": cards}))

    def publish(self, cards: Mapping[str, Any], number: int) -> None:
        """Configure the cards, and wait until so many devices are published."""
        self.write(self.file, cards)
        eventually(lambda: len(self.devices()) == number, what=f"{number} devices are published")

    def devices(self) -> dict[str, Wire]:
        """The published devices by their names."""
        return {device["name"]: device for wire in self.stack.slices() for device in wire["spec"].get("devices") or []}

    def dropped(self) -> list[Wire]:
        """What the plugin has logged of fields that the server dropped."""
        lines = [line for line in self.stack.plugin.log.splitlines() if "server_dropped_fields" in line]
        return [json.loads(line) for line in lines]
