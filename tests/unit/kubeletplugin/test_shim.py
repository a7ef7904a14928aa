"""Installing libvgpu.so: new content, new path; a library in use is never touched."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from dra_driver.cdi.render import ShimFiles
from dra_driver.cdi.store import CdiStore
from dra_driver.errors import ShimMissing
from dra_driver.kubeletplugin.shim import install_shim, remove_unused_shims

DRIVER = "vgpu.hami.io"


@pytest.fixture
def cdi(tmp_path: Path) -> CdiStore:
    return CdiStore(tmp_path / "cdi", driver=DRIVER)


def install(folder: Path, cdi: CdiStore, content: bytes) -> ShimFiles:
    (folder / "libvgpu.so").write_bytes(content)
    return install_shim(folder / "libvgpu.so", folder / "state", cdi, driver=DRIVER)


def installed(folder: Path) -> dict[str, bytes]:
    root = folder / "state" / "lib"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_library_lies_under_the_hash_of_its_content(tmp_path: Path, cdi: CdiStore) -> None:
    files = install(tmp_path, cdi, b"\x7fELF one")
    assert files.version == hashlib.sha256(b"\x7fELF one").hexdigest()[:16]
    assert installed(tmp_path) == {
        f"{files.version}/libvgpu.so": b"\x7fELF one",
        f"{files.version}/ld.so.preload": b"/usr/local/vgpu/libvgpu.so\n",
    }
    assert Path(files.library).stat().st_mode & 0o777 == 0o755
    assert Path(files.preload).stat().st_mode & 0o777 == 0o644


def test_its_cdi_spec_names_the_files_on_the_host(tmp_path: Path, cdi: CdiStore) -> None:
    files = install(tmp_path, cdi, b"one")
    assert cdi.names() == {f"shim-{files.version}"}
    (device,) = json.loads(cdi.path(f"shim-{files.version}").read_text())["devices"]
    assert device["name"] == files.version
    assert {mount["hostPath"] for mount in device["containerEdits"]["mounts"]} == {files.library, files.preload}


def test_installing_the_same_again_touches_nothing(tmp_path: Path, cdi: CdiStore) -> None:
    files = install(tmp_path, cdi, b"one")
    before = [(Path(path).stat().st_ino, Path(path).stat().st_mtime_ns) for path in (files.library, files.preload)]
    assert install(tmp_path, cdi, b"one") == files
    assert [(Path(p).stat().st_ino, Path(p).stat().st_mtime_ns) for p in (files.library, files.preload)] == before


def test_a_new_version_leaves_the_one_that_is_mapped_alone(tmp_path: Path, cdi: CdiStore) -> None:
    old = install(tmp_path, cdi, b"one")
    with Path(old.library).open("rb") as mapped:
        new = install(tmp_path, cdi, b"two")
        assert mapped.read() == b"one"
    assert new.library != old.library
    assert Path(old.library).read_bytes() == b"one"
    assert cdi.names() == {f"shim-{old.version}", f"shim-{new.version}"}


def test_a_library_that_was_damaged_on_disk_is_put_right_by_a_new_file(tmp_path: Path, cdi: CdiStore) -> None:
    files = install(tmp_path, cdi, b"one")
    Path(files.library).write_bytes(b"on")
    damaged = Path(files.library).stat().st_ino
    install(tmp_path, cdi, b"one")
    assert Path(files.library).read_bytes() == b"one"
    assert Path(files.library).stat().st_ino != damaged


def test_versions_that_no_claim_names_are_removed(tmp_path: Path, cdi: CdiStore) -> None:
    versions = [install(tmp_path, cdi, content) for content in (b"one", b"two", b"three")]
    cdi_of_a_claim = versions[0]
    remove_unused_shims(tmp_path / "state", cdi, used={cdi_of_a_claim.version, versions[2].version})
    kept = {versions[0].version, versions[2].version}
    assert {name.partition("/")[0] for name in installed(tmp_path)} == kept
    assert cdi.names() == {f"shim-{version}" for version in kept}


def test_removing_unused_versions_spares_the_specs_of_claims(tmp_path: Path, cdi: CdiStore) -> None:
    files = install(tmp_path, cdi, b"one")
    claim = cdi.path("claim-1")
    claim.write_text("{}")
    remove_unused_shims(tmp_path / "state", cdi, used={files.version})
    assert claim.exists()


def test_a_library_that_is_not_there_is_named(tmp_path: Path, cdi: CdiStore) -> None:
    with pytest.raises(ShimMissing, match=r"shim library .*/none\.so: No such file"):
        install_shim(tmp_path / "none.so", tmp_path / "state", cdi, driver=DRIVER)
    assert cdi.names() == set()
