"""What admission judges in a claim, a template or a class: configs and requests, each with its path.

The three kinds hold the same things in different places, and older versions of the API write requests in another form;
what comes after this module knows neither. The paths are those of the version that the user's object has here.
Source: k8s.io/api/resource/{v1,v1beta2,v1beta1}/types.go (1.37).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from dra_driver.errors import ObjectRejected
from dra_driver.explain.objects import Ask, Request, Wire
from dra_driver.kube.claims import dotted

GROUP = "resource.k8s.io"
CLAIM = "ResourceClaim"
TEMPLATE = "ResourceClaimTemplate"
DEVICE_CLASS = "DeviceClass"
# Where requests have the fields of `exactly` themselves.
_FLAT_VERSION = "v1beta1"


@dataclass(frozen=True)
class Parameters:
    """Opaque parameters for our driver, unread."""

    path: str
    wire: Any


@dataclass(frozen=True)
class PlacedAsk:
    """One request, or one alternative of a request."""

    path: str
    name: str
    ask: Ask


@dataclass(frozen=True)
class Subject:
    """What there is to judge."""

    parameters: tuple[Parameters, ...] = ()
    asks: tuple[PlacedAsk, ...] = ()

    def beyond(self, old: Subject) -> Subject:
        """What the old object did not have, so that it is not refused for what it was allowed to have before."""
        had = [one.wire for one in old.parameters]
        asked = [one.ask for one in old.asks]
        return Subject(
            tuple(one for one in self.parameters if one.wire not in had),
            tuple(one for one in self.asks if one.ask not in asked),
        )


class _Opaque(Wire):
    driver: str = ""
    parameters: Any = None


class _Config(Wire):
    opaque: _Opaque | None = None


class _Devices(Wire):
    requests: tuple[dict[str, Any], ...] = ()
    config: tuple[_Config, ...] = ()


class _ClaimSpec(Wire):
    devices: _Devices = _Devices()


class _Claim(Wire):
    spec: _ClaimSpec = _ClaimSpec()


class _Template(Wire):
    spec: _Claim = _Claim()


class _ClassSpec(Wire):
    config: tuple[_Config, ...] = ()


class _Class(Wire):
    spec: _ClassSpec = _ClassSpec()


def read_subject(kind: str, version: str, wire: Mapping[str, Any], *, driver: str) -> Subject:
    """Find what belongs to `driver`. Raises ObjectRejected where it is no object of that kind."""
    try:
        if kind == CLAIM:
            return _of_claim("spec.devices", version, _Claim.model_validate(wire), driver)
        if kind == TEMPLATE:
            return _of_claim("spec.spec.devices", version, _Template.model_validate(wire).spec, driver)
        if kind == DEVICE_CLASS:
            found = _Class.model_validate(wire)
            return Subject(tuple(_parameters("spec.config", found.spec.config, driver)))
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise ObjectRejected(kind, dotted(first["loc"]), first["msg"]) from error
    raise ObjectRejected(kind, "kind", f"is none of {CLAIM}, {TEMPLATE}, {DEVICE_CLASS}")


def _of_claim(base: str, version: str, claim: _Claim, driver: str) -> Subject:
    devices = claim.spec.devices
    return Subject(
        tuple(_parameters(f"{base}.config", devices.config, driver)),
        tuple(_asks(f"{base}.requests", version, devices.requests)),
    )


def _parameters(base: str, configs: tuple[_Config, ...], driver: str) -> Iterator[Parameters]:
    for index, config in enumerate(configs):
        if config.opaque is not None and config.opaque.driver == driver:
            yield Parameters(f"{base}[{index}].opaque.parameters", config.opaque.parameters)


def _asks(base: str, version: str, requests: tuple[dict[str, Any], ...]) -> Iterator[PlacedAsk]:
    for index, wire in enumerate(requests):
        path = f"{base}[{index}]"
        flat = version == _FLAT_VERSION and "deviceClassName" in wire
        request = Request.model_validate({"name": wire.get("name"), "exactly": wire} if flat else wire)
        if request.exactly is not None:
            yield PlacedAsk(path if flat else f"{path}.exactly", request.name, request.exactly)
        for place, ask in enumerate(request.first_available):
            yield PlacedAsk(f"{path}.firstAvailable[{place}]", f"{request.name}/{ask.name}", ask)
