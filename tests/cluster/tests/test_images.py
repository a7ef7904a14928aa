"""Image archives are the same for the same content, and hold what containers need."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.cluster.errors import ImageError
from tests.cluster.images import probe, wheels
from tests.cluster.images.archive import Entry, File, Folder, ImageConfig, Link, layer, recipe_hash, write
from tests.cluster.images.packages import merged


def members(content: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return {member.name: member for member in tar}


def test_layer_does_not_depend_on_the_order_of_its_entries() -> None:
    one: dict[str, Entry] = {"a/b": File(b"x"), "c": Link("a/b")}
    assert layer(one) == layer(dict(reversed(one.items())))


def test_layer_has_parents_modes_and_no_times() -> None:
    found = members(layer({"usr/bin/tool": File(b"#!", 0o755), "tmp": Folder(0o1777), "sh": Link("usr/bin/tool")}))
    assert found["usr"].isdir()
    assert found["usr/bin/tool"].mode == 0o755
    assert found["tmp"].mode == 0o1777
    assert found["sh"].linkname == "usr/bin/tool"
    assert {(member.mtime, member.uid, member.gid) for member in found.values()} == {(0, 0, 0)}


def test_archive_names_the_image_and_its_layers(tmp_path: Path) -> None:
    config = ImageConfig("hami-dra.test/some:1", ["sh"], {"COLOUR": "blue"})
    content = layer({"x": File(b"1")})
    path = write(tmp_path / "image.tar", config, [content])
    assert path.read_bytes() == write(tmp_path / "again.tar", config, [content]).read_bytes()
    with tarfile.open(path) as tar:

        def member(name: str) -> bytes:
            file = tar.extractfile(name)
            assert file is not None
            return file.read()

        (manifest,) = json.loads(member("manifest.json"))
        settings = json.loads(member(manifest["Config"]))
        assert manifest["RepoTags"] == ["hami-dra.test/some:1"]
        assert [member(name) for name in manifest["Layers"]] == [content]
    assert settings["config"]["Cmd"] == ["sh"]
    assert "COLOUR=blue" in settings["config"]["Env"]


def test_recipe_hash_keeps_its_parts_apart() -> None:
    assert recipe_hash("ab", "c") != recipe_hash("a", "bc")
    assert recipe_hash("ab", "c") == recipe_hash(b"ab", b"c")


@pytest.mark.parametrize(
    ("shipped", "placed"),
    [
        ("./bin/busybox", "usr/bin/busybox"),
        ("./lib64/ld-linux-x86-64.so.2", "usr/lib64/ld-linux-x86-64.so.2"),
        ("./usr/bin/python3.11", "usr/bin/python3.11"),
        ("./etc/ld.so.conf.d/libc.conf", "etc/ld.so.conf.d/libc.conf"),
        ("./lib", ""),
        ("./", ""),
    ],
)
def test_files_of_packages_are_placed_on_a_merged_usr(shipped: str, placed: str) -> None:
    assert merged(shipped) == placed


def test_clients_bring_what_they_require_and_nothing_optional() -> None:
    names = {one.name for one in wheels.closure(["nvitop"])}
    assert {"nvitop", "nvidia-ml-py", "psutil"} <= names
    assert "ruff" not in names


def test_missing_client_is_named() -> None:
    with pytest.raises(ImageError, match="no-such-client is not installed"):
        wheels.closure(["no-such-client"])


def test_bytecode_is_added_for_modules_that_compile() -> None:
    found = wheels.with_bytecode({"lib/good.py": File(b"x = 1\n"), "lib/bad.py": File(b"x = = 1\n")})
    assert [path for path in found if path.endswith(".pyc")] == ["lib/__pycache__/good.cpython-311.pyc"]


@pytest.mark.e2e
def test_extra_files_are_part_of_the_probe_image(tmp_path: Path) -> None:
    program = tmp_path / "tool"
    program.write_bytes(b"#!/bin/sh\necho tool\n")
    program.chmod(0o755)
    with tarfile.open(probe.archive({"/opt/tool": program})) as tar:
        (manifest,) = json.load(tar.extractfile("manifest.json") or io.BytesIO())
        programs = tar.extractfile(manifest["Layers"][-1])
        assert programs is not None
        found = members(programs.read())
    assert found["opt/tool"].mode == 0o755
    assert "usr/local/bin/vgpu-probe" in found


@pytest.mark.parametrize(
    ("place", "name", "reason"), [("opt/x", "x", "starts with /"), ("/opt/x", "y", "cannot be read")]
)
def test_wrong_extra_file_is_refused(tmp_path: Path, place: str, name: str, reason: str) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(ImageError, match=reason):
        probe.archive({place: tmp_path / name})
