"""The project's two images: what is in each, and how it starts."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tools.image import base, python, sbom
from tools.image.debian import PackageIndex
from tools.image.entries import Entry, File, layer
from tools.image.errors import ImageError
from tools.image.oci import ARCHITECTURES, Image, Layer, write

LIBRARY = "usr/lib/hami-dra/libvgpu.so"
# -I: no variable of the container and no folder that a user may write decides what is imported.
_COMMAND = b"#!/usr/bin/python3.11 -I\nimport sys\n\nfrom dra_driver.__main__ import main\n\nsys.exit(main())\n"
_ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}


@dataclass(frozen=True)
class Recipe:
    """One image."""

    name: str
    user: str
    with_library: bool

    @property
    def repository(self) -> str:
        """The name under which the archive is imported, without tag; in a registry its own name comes first."""
        return f"localhost/hami-dra/{self.name}"


RECIPES = (
    # Host paths of root's, and the kubelet's sockets: it cannot be another user.
    Recipe("kubeletplugin", "0:0", with_library=True),
    Recipe("controller", "65532:65532", with_library=False),
)


@dataclass(frozen=True)
class Workshop:
    """Where images are built from, and where to."""

    root: Path
    out: Path
    cache: Path
    own_base: Path | None = None

    @property
    def version(self) -> str:
        """The project's."""
        found: str = tomllib.loads((self.root / "pyproject.toml").read_text())["project"]["version"]
        return found

    def library(self, architecture: str) -> bytes:
        """libvgpu.so. Raises ImageError where it has not been built."""
        path = self.root / "build" / "native" / architecture / "libvgpu.so"
        try:
            return path.read_bytes()
        except OSError as absent:
            raise ImageError(f"{path} cannot be read: build it first (make native): {absent}") from absent


@dataclass(frozen=True)
class Built:
    """An image that was written."""

    archive: Path
    digest: str
    sizes: dict[str, int]
    """Compressed bytes by architecture."""


def build(recipe: Recipe, workshop: Workshop, architectures: tuple[str, ...] = tuple(ARCHITECTURES)) -> Built:
    """Write the image's archive, and a bill of materials beside it for each architecture. Raises ImageError."""
    images = [_image(recipe, workshop, architecture) for architecture in architectures]
    archive = workshop.out / f"{recipe.name}.oci.tar"
    digest = write(archive, f"{recipe.repository}:{workshop.version}", images)
    return Built(archive, digest, {image.architecture: image.size for image in images})


def _image(recipe: Recipe, workshop: Workshop, architecture: str) -> Image:
    bottom = _bottom(workshop, architecture)
    lock = workshop.root / "requirements" / f"{recipe.name}.lock"
    packages, distributions = python.locked(lock, architecture)
    top: dict[str, Entry] = {**_code(workshop), "usr/bin/hami-dra": File(_COMMAND, 0o755)}
    library = workshop.library(architecture) if recipe.with_library else b""
    if library:
        top[LIBRARY] = File(library, 0o755)
    contents = sbom.Contents(
        recipe.repository,
        workshop.version,
        ARCHITECTURES[architecture],
        bottom.packages,
        tuple(distributions),
        hashlib.sha256(library).hexdigest() if library else "",
    )
    bill = workshop.out / f"{recipe.name}-{ARCHITECTURES[architecture]}.cdx.json"
    bill.parent.mkdir(parents=True, exist_ok=True)
    bill.write_text(sbom.bill(contents))
    layers = [Layer.compressed(layer(part)) for part in (python.with_bytecode(packages), top)]
    return Image(
        architecture,
        (*bottom.layers, *layers),
        entrypoint=("/usr/bin/hami-dra",),
        command=(recipe.name,),
        environment={**bottom.environment, **_ENVIRONMENT},
        user=recipe.user,
        labels={
            "org.opencontainers.image.title": recipe.repository,
            "org.opencontainers.image.version": workshop.version,
            "org.opencontainers.image.licenses": "Apache-2.0",
        },
    )


@lru_cache
def _code(workshop: Workshop) -> Mapping[str, Entry]:
    """The project's own, which no architecture and no image changes."""
    return python.with_bytecode(python.project(workshop.root))


@lru_cache
def _bottom(workshop: Workshop, architecture: str) -> base.Base:
    """Both images have the same."""
    if workshop.own_base is not None:
        return base.own(workshop.own_base, architecture)
    return base.debian(PackageIndex(workshop.cache / "debian", architecture))
