"""Which of NVIDIA's CDI devices are there, whatever else lies in the directories."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from drivers.nvidia.toolkit import Toolkit

UUID = "GPU-8f3a1c2d-0000-1111-2222-333344445555"
SPEC = {"cdiVersion": "0.6.0", "kind": "nvidia.com/gpu", "devices": [{"name": "0"}, {"name": UUID}]}
YAML = f'---\ncdiVersion: "0.6.0"\nkind: nvidia.com/gpu\ndevices:\n- name: "0"\n- name: {UUID}\n'


@pytest.fixture
def directories(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "etc").mkdir()
    (tmp_path / "run").mkdir()
    return tmp_path / "etc", tmp_path / "run"


@pytest.mark.parametrize(("name", "content"), [("nvidia.json", json.dumps(SPEC)), ("nvidia.yaml", YAML)])
@pytest.mark.parametrize("place", [0, 1])
def test_device_is_found_in_either_directory_and_format(
    directories: tuple[Path, Path], name: str, content: str, place: int
) -> None:
    (directories[place] / name).write_text(content)
    assert Toolkit(directories).catalogue().devices == {f"nvidia.com/gpu={UUID}", "nvidia.com/gpu=0"}


def test_spec_of_another_kind_has_no_devices_for_us(directories: tuple[Path, Path]) -> None:
    (directories[0] / "other.json").write_text(json.dumps({**SPEC, "kind": "example.com/gpu"}))
    assert not Toolkit(directories).catalogue().has(UUID)


def test_file_with_another_suffix_is_not_read_as_the_runtime_does_not_either(
    directories: tuple[Path, Path],
) -> None:
    (directories[0] / "nvidia.json.bak").write_text(json.dumps(SPEC))
    assert not Toolkit(directories).catalogue().has(UUID)


def test_absence_says_where_was_looked_and_what_to_run(directories: tuple[Path, Path]) -> None:
    sentence = Toolkit(directories).catalogue().absence(UUID)
    assert f"nvidia.com/gpu={UUID}" in sentence
    assert str(directories[0]) in sentence
    assert str(directories[1]) in sentence
    assert "nvidia-ctk cdi generate" in sentence


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", "{"),
        ("a.json", "[" * 100_000),
        ("a.yaml", "kind: [nvidia.com/gpu"),
        ("a.yaml", "kind: !!python/object/apply:os.getcwd []"),
        ("a.json", json.dumps({"kind": "nvidia.com/gpu", "devices": 3})),
        ("a.json", b"\xff\xfe\x00"),
    ],
)
def test_broken_file_hides_only_itself_and_is_named(
    directories: tuple[Path, Path], name: str, content: str | bytes
) -> None:
    (directories[0] / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    (directories[1] / "nvidia.json").write_text(json.dumps(SPEC))
    catalogue = Toolkit(directories).catalogue()
    assert catalogue.has(UUID)
    assert str(directories[0] / name) in catalogue.absence("GPU-other")


@pytest.mark.parametrize("content", ["[]", "null", "3", '{"kind": 7}'])
def test_file_that_is_no_spec_is_passed_over(directories: tuple[Path, Path], content: str) -> None:
    (directories[0] / "a.json").write_text(content)
    assert Toolkit(directories).catalogue().devices == frozenset()


def test_missing_directories_hold_nothing(tmp_path: Path) -> None:
    assert Toolkit([tmp_path / "nowhere"]).catalogue().devices == frozenset()


def test_spec_that_is_written_later_is_seen_and_one_that_is_removed_is_not(
    directories: tuple[Path, Path],
) -> None:
    toolkit = Toolkit(directories)
    assert not toolkit.catalogue().has(UUID)
    (directories[0] / "nvidia.json").write_text(json.dumps(SPEC))
    assert toolkit.catalogue().has(UUID)
    (directories[0] / "nvidia.json").write_text(json.dumps({**SPEC, "devices": []}))
    assert not toolkit.catalogue().has(UUID)
    (directories[0] / "nvidia.json").unlink()
    assert toolkit.catalogue().devices == frozenset()


def test_a_card_is_known_without_reading_again_until_its_file_changes(directories: tuple[Path, Path]) -> None:
    toolkit = Toolkit(directories)
    path = directories[0] / "nvidia.json"
    path.write_text(json.dumps(SPEC))
    assert not toolkit.has(UUID), "nothing was read yet"
    toolkit.catalogue()
    (directories[1] / "somebody-elses.json").write_text("{")
    assert toolkit.has(UUID)
    path.write_text(json.dumps({**SPEC, "devices": []}))
    assert not toolkit.has(UUID)
    path.unlink()
    assert not toolkit.has(UUID)


def test_a_spec_that_is_gone_is_not_remembered(directories: tuple[Path, Path]) -> None:
    toolkit = Toolkit(directories)
    for number in range(3):
        path = directories[1] / f"claim-{number}.json"
        path.write_text(json.dumps(SPEC))
        toolkit.catalogue()
        path.unlink()
    toolkit.catalogue()
    assert toolkit._read == {}
