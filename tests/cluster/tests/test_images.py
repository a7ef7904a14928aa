"""The tests' own images hold what containers need."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.errors import ImageError
from tests.cluster.images import probe, wheels
from tests.cluster.images.recipe import recipe_hash
from tests.support import images


def test_recipe_hash_keeps_its_parts_apart() -> None:
    assert recipe_hash("ab", "c") != recipe_hash("a", "bc")
    assert recipe_hash("ab", "c") == recipe_hash(b"ab", b"c")


def test_clients_bring_what_they_require_and_nothing_optional() -> None:
    names = {one.name for one in wheels.closure(["nvitop"])}
    assert {"nvitop", "nvidia-ml-py", "psutil"} <= names
    assert "ruff" not in names


def test_missing_client_is_named() -> None:
    with pytest.raises(ImageError, match="no-such-client is not installed"):
        wheels.closure(["no-such-client"])


@pytest.mark.e2e
def test_extra_files_are_part_of_the_probe_image(tmp_path: Path) -> None:
    program = tmp_path / "tool"
    program.write_bytes(b"#!/bin/sh\necho tool\n")
    program.chmod(0o755)
    image = images.read(probe.archive({"/opt/tool": program}))
    found = image.layers[-1]
    assert found["opt/tool"].mode == 0o755
    assert "usr/local/bin/vgpu-probe" in found


@pytest.mark.parametrize(
    ("place", "name", "reason"), [("opt/x", "x", "starts with /"), ("/opt/x", "y", "cannot be read")]
)
def test_wrong_extra_file_is_refused(tmp_path: Path, place: str, name: str, reason: str) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(ImageError, match=reason):
        probe.archive({place: tmp_path / name})
