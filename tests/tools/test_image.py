"""Images: the same bytes for the same content, for both architectures, with what each needs and no more."""

from __future__ import annotations

import io
import json
import platform
import subprocess
import tarfile
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.support import images
from tests.support.images import members
from tools.image import base, oci, recipes
from tools.image.debian import merged
from tools.image.entries import Entry, File, Folder, Link, layer
from tools.image.errors import ImageError
from tools.image.python import SITE, with_bytecode
from tools.setup.layout import Layout

ROOT = Path(__file__).resolve().parents[2]
MEBI = 1 << 20


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


def an_image(architecture: str = "x86_64") -> oci.Image:
    packed = oci.Layer.compressed(layer({"x": File(architecture.encode())}))
    return oci.Image(architecture, [packed], command=["sh"], environment={"COLOUR": "blue"}, user="7:7")


def test_archive_names_the_image_and_has_each_architecture(tmp_path: Path) -> None:
    both = [an_image("x86_64"), an_image("aarch64")]
    digest = oci.write(tmp_path / "image.tar", "hami-dra.test/some:1", both)
    assert digest == oci.write(tmp_path / "again.tar", "hami-dra.test/some:1", both)
    assert (tmp_path / "image.tar").read_bytes() == (tmp_path / "again.tar").read_bytes()
    arm = images.read(tmp_path / "image.tar", "arm64")
    assert arm.name == "hami-dra.test/some:1"
    assert arm.file("x") == b"aarch64"
    assert arm.config["config"]["Cmd"] == ["sh"]
    assert arm.config["config"]["User"] == "7:7"
    assert "COLOUR=blue" in arm.config["config"]["Env"]


def test_own_base_is_taken_layer_by_layer(tmp_path: Path) -> None:
    oci.write(tmp_path / "base.tar", "hami-dra.test/base:1", [an_image("x86_64"), an_image("aarch64")])
    taken = base.own(tmp_path / "base.tar", "aarch64")
    assert taken.layers == tuple(an_image("aarch64").layers)
    assert taken.environment["COLOUR"] == "blue"


def test_own_base_as_a_folder_is_taken_too(tmp_path: Path) -> None:
    oci.write(tmp_path / "base.tar", "hami-dra.test/base:1", [an_image()])
    with tarfile.open(tmp_path / "base.tar") as tar:
        tar.extractall(tmp_path / "base", filter="data")
    assert base.own(tmp_path / "base", "x86_64").layers == tuple(an_image().layers)


def test_own_base_of_another_architecture_is_refused(tmp_path: Path) -> None:
    oci.write(tmp_path / "base.tar", "hami-dra.test/base:1", [an_image("x86_64")])
    with pytest.raises(ImageError, match=r"base\.tar: not an OCI image for aarch64: .*no manifest for arm64"):
        base.own(tmp_path / "base.tar", "aarch64")


def test_own_base_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "base.tar").write_text("not a tar")
    with pytest.raises(ImageError, match="cannot be read as an OCI archive"):
        base.own(tmp_path / "base.tar", "x86_64")


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


def test_bytecode_is_added_for_modules_that_compile() -> None:
    found = with_bytecode({"lib/good.py": File(b"x = 1\n"), "lib/bad.py": File(b"x = = 1\n")})
    assert [path for path in found if path.endswith(".pyc")] == ["lib/__pycache__/good.cpython-311.pyc"]


@pytest.mark.parametrize("name", ["kubeletplugin", "controller"])
def test_an_image_has_the_versions_that_the_whole_project_has(name: str) -> None:
    def pinned(lock: str) -> set[str]:
        lines = (ROOT / "requirements" / lock).read_text().splitlines()
        return {line.split(" ")[0] for line in lines if "==" in line}

    assert pinned(f"{name}.lock") <= pinned("runtime.lock")


# What `make images` writes, for this machine's architecture.


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> recipes.Workshop:
    layout = Layout.of(ROOT, {})
    return recipes.Workshop(ROOT, tmp_path_factory.mktemp("images"), layout.cache)


@pytest.fixture(scope="module")
def built(workshop: recipes.Workshop) -> dict[str, recipes.Built]:
    return {one.name: recipes.build(one, workshop, (platform.machine(),)) for one in recipes.RECIPES}


def test_images_are_small(built: dict[str, recipes.Built]) -> None:
    sizes = {name: size for name, one in built.items() for size in one.sizes.values()}
    assert sizes["kubeletplugin"] <= 100 * MEBI
    assert sizes["controller"] <= 80 * MEBI


def test_a_second_build_has_the_same_digest(
    built: dict[str, recipes.Built], workshop: recipes.Workshop, tmp_path: Path
) -> None:
    again = recipes.Workshop(workshop.root, tmp_path, workshop.cache)
    (recipe,) = [one for one in recipes.RECIPES if one.name == "kubeletplugin"]
    assert recipes.build(recipe, again, (platform.machine(),)).digest == built["kubeletplugin"].digest


def test_nothing_in_them_builds_installs_or_serves_as_a_shell(built: dict[str, recipes.Built]) -> None:
    unwanted = {
        "cc",
        "gcc",
        "clang",
        "ld",
        "sh",
        "bash",
        "dash",
        "busybox",
        "apt",
        "apt-get",
        "dpkg",
        "pip",
        "pip3",
    }
    for one in built.values():
        for found in images.read(one.archive).layers:
            programs = {Path(path).name for path, entry in found.items() if entry.isfile() and entry.mode & 0o111}
            assert programs & unwanted == set()


def test_nothing_in_them_is_writable_for_others_or_gains_rights(built: dict[str, recipes.Built]) -> None:
    for one in built.values():
        for found in images.read(one.archive).layers:
            loose = [path for path, entry in found.items() if not entry.issym() and entry.mode & 0o6022]
            assert set(loose) <= {"tmp", "var/tmp"}


def test_controller_is_not_root(built: dict[str, recipes.Built]) -> None:
    assert images.read(built["controller"].archive).config["config"]["User"] == "65532:65532"


def test_plugin_carries_the_library_that_was_built(built: dict[str, recipes.Built]) -> None:
    library = (ROOT / "build" / "native" / platform.machine() / "libvgpu.so").read_bytes()
    assert images.read(built["kubeletplugin"].archive).file(recipes.LIBRARY) == library


@pytest.mark.parametrize("name", ["kubeletplugin", "controller"])
def test_command_runs_on_what_the_image_holds_alone(built: dict[str, recipes.Built], name: str, tmp_path: Path) -> None:
    """Every module that the command's subcommand needs is in the image: its words of help are there."""
    for content in images.read(built[name].archive).contents:
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            tar.extractall(tmp_path, filter="fully_trusted")
    command = ["chroot", str(tmp_path), "/usr/bin/hami-dra"]
    environment = {"PATH": oci.PATH}
    version = subprocess.run([*command, "version"], capture_output=True, text=True, check=True, env=environment)
    assert version.stdout.strip()
    # It gets as far as looking for the API server: all that it imports is there.
    tried = subprocess.run(
        [*command, name],
        capture_output=True,
        text=True,
        check=False,
        env={**environment, "HAMI_DRA_NODE_NAME": "n", "HAMI_DRA_POD_NAME": "p"},
    )
    assert "KUBERNETES_SERVICE_HOST" in tried.stderr


@pytest.mark.parametrize("name", ["kubeletplugin", "controller"])
def test_bill_of_materials_is_valid_and_names_every_part(
    built: dict[str, recipes.Built], workshop: recipes.Workshop, name: str
) -> None:
    text = next(workshop.out.glob(f"{name}-*.cdx.json")).read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    named = {one["name"].lower() for one in json.loads(text)["components"]}
    assert set(base.package_names()) <= named
    image = images.read(built[name].archive)
    modules = {Path(path).parent.name for found in image.layers for path in found if path.endswith("/METADATA")}
    assert {one.partition("-")[0].lower().replace("_", "-") for one in modules} - {"hami-dra"} <= {
        one.replace("_", "-") for one in named
    }
    assert any(path.startswith(SITE) for found in image.layers for path in found)
