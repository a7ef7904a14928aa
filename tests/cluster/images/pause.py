"""The sandbox image of every pod: one static program, compiled with the C compiler from PyPI."""

from __future__ import annotations

import platform
import sys
import tempfile
from pathlib import Path

from tests.cluster.commands import run
from tests.cluster.images.recipe import recipe_hash
from tests.cluster.node import PAUSE_IMAGE
from tests.cluster.paths import cache_folder
from tools.image import oci
from tools.image.entries import File, layer

SOURCE = Path(__file__).with_name("pause.c")
COMPILER_FLAGS = ("-std=c11", "-Os", "-s", "-static", "-Wall", "-Wextra", "-Werror", "-D_POSIX_C_SOURCE=200809L")


def archive() -> Path:
    """The image's archive, from the cache where this source was compiled before."""
    key = recipe_hash(
        SOURCE.read_bytes(), Path(__file__).read_bytes(), Path(oci.__file__).read_bytes(), platform.machine()
    )
    target = cache_folder() / "images" / f"pause-{key}.tar"
    if not target.exists():
        only = oci.Layer.plain(layer({"pause": File(_compile(), 0o755)}))
        oci.write(target, PAUSE_IMAGE, [oci.Image(platform.machine(), [only], command=["/pause"])])
    return target


def _compile() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "pause"
        target = f"{platform.machine()}-linux-musl"
        compiler = (sys.executable, "-m", "ziglang", "cc", "-target", target)
        run((*compiler, *COMPILER_FLAGS, "-o", str(program), str(SOURCE)), timeout=300)
        return program.read_bytes()
