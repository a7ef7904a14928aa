"""How the settings of a subcommand come together: from a configuration file, the environment and flags.

What can be set is a frozen dataclass whose fields are declared by `setting`; the later source wins. A setting
`kubelet_root` is `kubeletRoot` in the file, the variable `HAMI_DRA_KUBELET_ROOT` and the flag `--kubelet-root`.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from pydantic.alias_generators import to_camel

from dra_driver.errors import SettingsRejected

_PREFIX = "HAMI_DRA_"
LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("json", "text")
_TRUTHS = {"true": True, "false": False}


def setting(help_text: str, default: Any = dataclasses.MISSING) -> Any:
    """Declare a setting with the words that `--help` shows."""
    return field(default=default, metadata={"help": help_text})


class Source(StrEnum):
    """Where a setting comes from, the weakest first."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"
    FLAG = "flag"


class Settings(Protocol):
    """What every subcommand's settings have: the rest of the process needs these before anything else."""

    @property
    def log_level(self) -> str:
        """One of LEVELS."""
        ...

    @property
    def log_format(self) -> str:
        """One of FORMATS."""
        ...


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class FileContent:
    """A configuration file: its section `settings`, and fields of the settings class that only a file can hold."""

    settings: Mapping[str, Any]
    beside: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Gathered(Generic[S]):
    """The settings, and where those come from that are not at their default."""

    settings: S
    origins: Mapping[str, Source]

    def by_source(self) -> Mapping[Source, Mapping[str, Any]]:
        """Arrange what was set by its source, for the log."""
        return {
            source: {name: _plain(getattr(self.settings, name)) for name, own in self.origins.items() if own is source}
            for source in Source
            if source in self.origins.values()
        }


def add_flags(parser: argparse.ArgumentParser, kind: type[Any]) -> None:
    """Add one flag for each setting of a settings class."""
    for entry in settable(kind):
        flag = f"--{entry.name.replace('_', '-')}"
        parser.add_argument(flag, default=None, help=f"{entry.metadata['help']} (default: {_shown(entry.default)})")


def gather(
    kind: type[S],
    flags: Mapping[str, str | None],
    environment: Mapping[str, str],
    read_file: Callable[[Path], FileContent],
) -> Gathered[S]:
    """Put settings together, stage by stage. Raises SettingsRejected with the setting's name."""
    given = _given(kind, flags, environment)
    file = given.get("config_file", (Source.DEFAULT, ""))[1]
    content = read_file(Path(file)) if file else FileContent({})
    given = {**_from_file(kind, Path(file), content), **given}
    for entry in settable(kind):
        if entry.name not in given and entry.default is dataclasses.MISSING:
            flag = entry.name.replace("_", "-")
            raise SettingsRejected(f"setting {entry.name}: set --{flag} or {_PREFIX}{entry.name.upper()}")
    kinds = {entry.name: str(entry.type) for entry in settable(kind)}
    values = {name: _parse(name, kinds[name], text) for name, (_, text) in given.items()}
    return Gathered(kind(**values, **content.beside), {name: source for name, (source, _) in given.items()})


def refuse_nonsense(settings: object, checks: Iterable[tuple[str, bool, str]]) -> None:
    """Take checks `(setting, whether it is right, what is wrong otherwise)`. Raises SettingsRejected at the first."""
    for name, right, problem in checks:
        if not right:
            raise SettingsRejected(f"setting {name}: {getattr(settings, name)!r} {problem}")


def is_driver_name(text: str) -> bool:
    """Tell whether it can be a driver's name, which becomes part of paths and of CDI kinds."""
    return (
        len(text) <= 63
        and re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", text) is not None
    )


def settable(kind: type[Any]) -> list[dataclasses.Field[Any]]:
    """List the fields that are settings."""
    return [entry for entry in fields(kind) if "help" in entry.metadata]


def _given(
    kind: type[Any], flags: Mapping[str, str | None], environment: Mapping[str, str]
) -> dict[str, tuple[Source, str]]:
    """Collect what the environment and the flags say, as text."""
    given: dict[str, tuple[Source, str]] = {}
    for entry in settable(kind):
        variable, flag = environment.get(_PREFIX + entry.name.upper()), flags.get(entry.name)
        if variable is not None:
            given[entry.name] = (Source.ENVIRONMENT, variable)
        if flag is not None:
            given[entry.name] = (Source.FLAG, flag)
    return given


def _from_file(kind: type[Any], path: Path, content: FileContent) -> dict[str, tuple[Source, str]]:
    """Take the file's settings, as text: what can be written on a command line can be written there."""
    names = {to_camel(entry.name): entry for entry in settable(kind) if entry.name != "config_file"}
    given: dict[str, tuple[Source, str]] = {}
    for name, value in content.settings.items():
        where = f"configuration {path}: settings.{name}"
        if name not in names:
            raise SettingsRejected(f"{where}: no such setting (there are {', '.join(sorted(names))})")
        given[names[name].name] = (Source.FILE, _as_text(where, str(names[name].type), value))
    return given


def _as_text(where: str, kind: str, value: Any) -> str:
    if kind == "bool" and isinstance(value, bool):
        return str(value).lower()
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, str | int | float) and not isinstance(part, bool) for part in parts):
        raise SettingsRejected(f"{where}: {value!r} is neither text nor a number nor a list of them")
    return ",".join(map(str, parts))


def _plain(value: Any) -> Any:
    """Make a value fit for a line of the log."""
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value


def _parse(name: str, kind: str, text: str) -> Any:
    parts: Sequence[str] = [part for part in text.split(",") if part]
    try:
        match kind:
            case "bool":
                return _truth(name, text)
            case "int":
                return int(text)
            case "float":
                return float(text)
            case "Path":
                return Path(text)
            case "tuple[Path, ...]":
                return tuple(Path(part) for part in parts)
            case "tuple[int, ...]":
                return tuple(int(part) for part in parts)
            case "tuple[str, ...]":
                return tuple(parts)
            case _:
                return text
    except ValueError as error:
        raise SettingsRejected(f"setting {name}: {text!r} is not a number") from error


def _truth(name: str, text: str) -> bool:
    if text not in _TRUTHS:
        raise SettingsRejected(f"setting {name}: {text!r} is neither true nor false")
    return _TRUTHS[text]


def _shown(default: Any) -> str:
    if default is dataclasses.MISSING:
        return "none, required"
    if isinstance(default, bool):
        return str(default).lower()
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default) or "none"
