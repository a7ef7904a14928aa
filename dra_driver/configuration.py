"""The configuration file of a node: start-up settings in words of their own, and how its cards are published.

One file serves many nodes, since rules can name nodes. It is read strictly: a field that is not known is refused by
its path, for a misspelt field that does nothing is found much later than one that is refused.

    apiVersion: vgpu.hami.io/v1alpha1
    kind: NodeConfig
    settings:                      # read at start; a variable of the environment and a flag win over it
      logLevel: debug
    cards:                         # may change at any time
      mode: shared                 # shared, slots, whole or excluded
      shares: 10                   # how many tenants a shared card takes
      rules:                       # the first that matches a card decides instead
        - match: {index: [0], node: ["gpu-*"]}
          mode: slots
          slots: {number: 4, memory: 3Gi, cores: 25}
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from dra_driver.errors import SettingsRejected
from dra_driver.kube.quantities import whole

API_VERSION = "vgpu.hami.io/v1alpha1"
KIND = "NodeConfig"

_File = TypeVar("_File", bound=BaseModel)


class CardMode(StrEnum):
    """What becomes of a card: shares of any size, slots of one size, one whole device, or nothing."""

    SHARED = "shared"
    SLOTS = "slots"
    WHOLE = "whole"
    EXCLUDED = "excluded"


def _bytes(value: object) -> object:
    """Read a quantity, as `4Gi`."""
    return whole(value) if isinstance(value, str) else value


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class Slots(_Part):
    """The slots of a card: how many, or how large, or both; what is missing follows from the card.

    `memory` in bytes (a quantity in the file), `cores` in percent.
    """

    number: Annotated[int, Field(ge=1, le=100)] | None = None
    memory: Annotated[int, BeforeValidator(_bytes), Field(ge=1)] | None = None
    cores: Annotated[int, Field(ge=0, le=100)] | None = None

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.number is None and self.memory is None:
            raise ValueError("number or memory must be given")
        if self.number is not None and self.cores is not None and self.number * self.cores > 100:
            raise ValueError(f"{self.number} slots of {self.cores} percent are more than a card has")
        return self


class Treatment(_Part):
    """How a card is published."""

    mode: CardMode = CardMode.SHARED
    shares: Annotated[int, Field(ge=1, le=1000)] | None = None
    slots: Slots | None = None

    @model_validator(mode="after")
    def _fits_mode(self) -> Self:
        if (self.mode is CardMode.SLOTS) != (self.slots is not None):
            raise ValueError("slots must be given in mode slots, and in no other")
        if self.shares is not None and self.mode is not CardMode.SHARED:
            raise ValueError("shares can be given in mode shared only")
        return self


class CardFacts(_Part):
    """What a rule can ask about a card."""

    uuid: str
    index: int
    vendor: str
    model: str
    pci_bus_id: str


class Match(_Part):
    """Which cards a rule is for: all that is named must fit. Texts may hold `*`."""

    uuid: tuple[str, ...] = ()
    index: tuple[int, ...] = ()
    vendor: tuple[str, ...] = ()
    model: tuple[str, ...] = ()
    pci_bus_id: tuple[str, ...] = Field(default=(), alias="pciBusID")
    node: tuple[str, ...] = ()

    def fits(self, card: CardFacts, node: str) -> bool:
        """Tell whether a card of a node is meant."""
        texts = (
            (self.uuid, card.uuid),
            (self.vendor, card.vendor),
            (self.model, card.model),
            (self.pci_bus_id, card.pci_bus_id),
            (self.node, node),
        )
        return (not self.index or card.index in self.index) and all(
            not wanted or any(fnmatchcase(text, pattern) for pattern in wanted) for wanted, text in texts
        )


class Rule(Treatment):
    """A treatment for some cards."""

    match: Match


class Cards(Treatment):
    """How the cards of a node are published."""

    rules: tuple[Rule, ...] = ()

    def treatment(self, card: CardFacts, node: str) -> Treatment:
        """Choose the treatment of a card: the first rule that fits it, or the general one."""
        return next((rule for rule in self.rules if rule.match.fits(card, node)), self)


class NodeConfig(_Part):
    """The file."""

    api_version: Literal["vgpu.hami.io/v1alpha1"]
    kind: Literal["NodeConfig"]
    settings: Mapping[str, Any] = Field(default_factory=dict)
    cards: Cards = Cards()


class ControllerConfig(_Part):
    """The file of the controller: settings alone."""

    api_version: Literal["vgpu.hami.io/v1alpha1"]
    kind: Literal["ControllerConfig"]
    settings: Mapping[str, Any] = Field(default_factory=dict)


def read_configuration(path: Path) -> NodeConfig:
    """Read a node's file. Raises SettingsRejected, which names the file and the path of the field."""
    return _read(path, NodeConfig)


def read_controller_configuration(path: Path) -> ControllerConfig:
    """Read the controller's file. Raises SettingsRejected, which names the file and the path of the field."""
    return _read(path, ControllerConfig)


def _read(path: Path, kind: type[_File]) -> _File:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise SettingsRejected(f"configuration {path}: {' '.join(str(error).split())}") from error
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(f"{_spell(problem['loc'])}: {problem['msg']}" for problem in error.errors())
        raise SettingsRejected(f"configuration {path}: {problems}") from error


def _spell(location: tuple[int | str, ...]) -> str:
    """Write a place as people do: `cards.rules[0].slots.memory`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".") or "the file"
