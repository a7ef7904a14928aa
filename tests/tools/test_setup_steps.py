"""The set-up runs on machines that nobody looks at: what it skips and what it says must be right."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tools.setup.command import CommandLog
from tools.setup.debian import listed_packages, missing_packages
from tools.setup.display import PlainDisplay, duration
from tools.setup.errors import CommandFailedError, SetupError
from tools.setup.golang import Go, installed_version, required_version
from tools.setup.layout import Layout
from tools.setup.stamp import Stamp, fingerprint
from tools.setup.step import run_steps


@dataclass
class RecordingStep:
    """A step that says when it ran, and does what the test wants."""

    name: str
    ran: list[str]
    done: bool = False
    action: Callable[[CommandLog], None] = field(default=lambda log: None)

    @property
    def title(self) -> str:
        return f"the {self.name} step"

    def is_done(self) -> bool:
        return self.done

    def perform(self, log: CommandLog) -> None:
        self.ran.append(self.name)
        self.action(log)


def python(code: str) -> Callable[[CommandLog], None]:
    return lambda log: log.run([sys.executable, "-c", code])


def test_steps_run_in_order_and_those_that_are_done_are_skipped(tmp_path: Path) -> None:
    ran: list[str] = []
    shown = io.StringIO()
    steps = [
        RecordingStep("first", ran),
        RecordingStep("second", ran, done=True),
        RecordingStep("third", ran),
    ]
    run_steps(steps, PlainDisplay(shown), tmp_path)
    assert ran == ["first", "third"]
    assert "[2/3] the second step: nothing to do" in shown.getvalue()


def test_a_failed_step_ends_the_run_and_is_shown_as_failed(tmp_path: Path) -> None:
    ran: list[str] = []
    shown = io.StringIO()
    steps = [RecordingStep("first", ran, action=python("raise SystemExit(3)")), RecordingStep("second", ran)]
    with pytest.raises(CommandFailedError) as caught:
        run_steps(steps, PlainDisplay(shown), tmp_path)
    assert caught.value.status == 3
    assert ran == ["first"]
    assert "[1/2] the first step: failed" in shown.getvalue()


def test_a_failed_command_leaves_its_whole_output_in_the_log_and_its_end_in_the_error(tmp_path: Path) -> None:
    log = CommandLog(tmp_path / "logs" / "x.log", lambda line: None)
    with pytest.raises(CommandFailedError) as caught:
        log.run([sys.executable, "-c", "[print('line', n) for n in range(100)]; raise SystemExit(1)"])
    assert "line 0\n" in caught.value.log.read_text()
    assert caught.value.tail[-1] == "line 99"
    assert "line 0" not in caught.value.tail


def test_output_reaches_the_display_while_the_command_runs(tmp_path: Path) -> None:
    lines: list[str] = []
    CommandLog(tmp_path / "x.log", lines.append).run([sys.executable, "-c", "print('one'); print('two')"])
    assert lines == ["one\n", "two\n"]


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no-such-program"):
        CommandLog(tmp_path / "x.log", lambda line: None).run(["no-such-program"])


def test_a_stamp_holds_until_a_file_changes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("one")
    stamp = Stamp(tmp_path / "made" / "stamp")
    assert not stamp.holds(fingerprint([source]))
    stamp.write(fingerprint([source]))
    assert stamp.holds(fingerprint([source]))
    source.write_text("two")
    assert not stamp.holds(fingerprint([source]))


def test_a_fingerprint_knows_where_one_part_ends_and_the_next_begins() -> None:
    assert fingerprint([], ["ab", "c"]) != fingerprint([], ["a", "bc"])


def test_package_lists_allow_comments_and_blank_lines(tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_text("# all of it\n\nrunc  # containers\nopenssl\n")
    assert listed_packages(file) == ["runc", "openssl"]


def test_packages_that_dpkg_does_not_know_are_missing() -> None:
    assert missing_packages(["dpkg", "no-such-package-anywhere"]) == ["no-such-package-anywhere"]


def test_the_cache_follows_the_environment_only_with_an_absolute_path(tmp_path: Path) -> None:
    assert Layout.of(tmp_path, {"XDG_CACHE_HOME": "/somewhere"}).cache == Path("/somewhere/hami-dra")
    assert Layout.of(tmp_path, {"XDG_CACHE_HOME": "here"}).cache == Path.home() / ".cache" / "hami-dra"


def fake_go(folder: Path, version: str) -> Path:
    folder.mkdir(parents=True)
    go = folder / "go"
    go.write_text(f"#!/bin/sh\necho {version}\n")
    go.chmod(0o755)
    return go


def test_versions_of_go_compare_as_numbers(tmp_path: Path) -> None:
    go_mod = tmp_path / "go.mod"
    go_mod.write_text("module m\n\ngo 1.26.6\n")
    assert required_version(go_mod) == (1, 26, 6)
    assert installed_version(fake_go(tmp_path / "a", "go1.100.0")) == (1, 100, 0)
    assert installed_version(tmp_path / "nothing") is None


def test_a_go_that_is_too_old_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "checkout"
    (root / "tests/cluster/tools").mkdir(parents=True)
    (root / "tests/cluster/tools/go.mod").write_text("go 1.26.6\n")
    (root / "requirements").mkdir()
    (root / "requirements/go.lock").write_text("")
    monkeypatch.setattr("tools.setup.golang.USUAL_PLACES", ())
    go = Go(Layout(root=root, cache=tmp_path / "cache"))

    monkeypatch.setenv("PATH", str(fake_go(tmp_path / "old", "go1.26.5").parent))
    assert go.program() is None
    new = fake_go(tmp_path / "new", "go1.26.6")
    monkeypatch.setenv("PATH", str(new.parent))
    assert go.program() == new


@pytest.mark.parametrize(("seconds", "shown"), [(0.04, "0.0 s"), (12.4, "12 s"), (185.0, "3 min 05 s")])
def test_durations_read_well(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
