"""The bill of materials beside an image: CycloneDX 1.6, the same bytes for the same image."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from tools.image.debian import Package
from tools.image.python import Distribution

_NAMESPACE = uuid.UUID("5b0f6a0e-8d2f-4d6c-9f1e-2f6f0c7f0b11")


@dataclass(frozen=True)
class Contents:
    """All that an image is made of."""

    name: str
    version: str
    architecture: str
    packages: tuple[Package, ...]
    distributions: tuple[Distribution, ...]
    library: str = ""
    """SHA-256 of libvgpu.so, where the image carries it."""


def bill(contents: Contents) -> str:
    """The document as JSON."""
    image = Component(type=ComponentType.CONTAINER, name=contents.name, version=contents.version)
    bom = Bom(
        components=_components(contents),
        serial_number=uuid.uuid5(_NAMESPACE, repr(contents)),
        metadata=BomMetaData(component=image, timestamp=datetime.fromtimestamp(0, UTC)),
    )
    bom.register_dependency(image, bom.components)
    return JsonV1Dot6(bom).output_as_string(indent=1)


def _components(contents: Contents) -> Iterable[Component]:
    for package in contents.packages:
        yield _debian(package, contents.architecture)
    for distribution in contents.distributions:
        yield _python(distribution)
    if contents.library:
        hashes = [HashType(alg=HashAlgorithm.SHA_256, content=contents.library)]
        yield Component(type=ComponentType.LIBRARY, name="libvgpu", version=contents.version, hashes=hashes)


def _debian(package: Package, architecture: str) -> Component:
    qualifiers = {"arch": architecture, "distro": "debian-12", "upstream": package.source}
    purl = PackageURL("deb", "debian", package.name, package.version, qualifiers)
    return _component(package.name, package.version, purl)


def _python(one: Distribution) -> Component:
    licences = [DisjunctiveLicense(name=one.licence)] if one.licence else []
    return _component(one.name, one.version, PackageURL("pypi", None, one.name.lower(), one.version), licences)


def _component(name: str, version: str, purl: PackageURL, licences: Iterable[DisjunctiveLicense] = ()) -> Component:
    reference = purl.to_string()
    return Component(
        type=ComponentType.LIBRARY, name=name, version=version, purl=purl, bom_ref=reference, licenses=licences
    )
