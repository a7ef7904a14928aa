"""Which pods need which claim templates: the picture that templates.py acts on.

A pod needs its templates from its creation until it ends: Kubernetes makes the claims soon after the pod, and makes one
anew that somebody has deleted. A pod that has ended, or is being deleted, gets no more claims.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from dra_driver.errors import ObjectRejected
from dra_driver.kube.events import ObjectRef
from dra_driver.migration.markers import FROM, FROM_HAMI, TEMPLATES, templates_of
from dra_driver.migration.template import TemplateSpec

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_ENDED = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True)
class Key:
    """A template by name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"ResourceClaimTemplate {self.namespace}/{self.name}"


@dataclass(frozen=True)
class _User:
    text: str
    name: str
    keys: tuple[Key, ...]


class Users:
    """Pods by the templates that they need."""

    def __init__(self, *, driver: str) -> None:
        self._driver = driver
        self._pods: dict[str, _User] = {}
        self._by_template: dict[Key, dict[str, None]] = {}
        self._specs: dict[Key, TemplateSpec] = {}

    def saw(self, wire: Mapping[str, Any], *, gone: bool) -> tuple[Key, ...]:
        """Take in a pod; returns the templates whose users changed."""
        metadata = wire.get("metadata") or {}
        uid = str(metadata.get("uid", ""))
        text = "" if gone or _needs_nothing(wire) else str((metadata.get("annotations") or {}).get(TEMPLATES, ""))
        before = self._pods.get(uid)
        if text == (before.text if before else ""):
            return ()
        lost = self._forget(uid)
        return lost + self._learn(uid, text, wire) if text else lost

    def need(self, key: Key) -> TemplateSpec | None:
        """The template's content while a pod needs it."""
        return self._specs.get(key)

    def needed(self) -> tuple[Key, ...]:
        """All templates that pods need."""
        return tuple(self._specs)

    def someone(self, key: Key) -> ObjectRef | None:
        """One of the pods that need the template."""
        for uid in self._by_template.get(key, ()):
            return ObjectRef("v1", "Pod", key.namespace, self._pods[uid].name, uid)
        return None

    def _learn(self, uid: str, text: str, wire: Mapping[str, Any]) -> tuple[Key, ...]:
        # Kept even where it cannot be read, so that it is read, and complained of, once.
        name = str((wire.get("metadata") or {}).get("name", ""))
        self._pods[uid] = _User(text, name, ())
        try:
            specs = self._read(wire)
        except ObjectRejected as error:
            log.warning("templates_unreadable", object=error.subject, path=error.path, error=error.problem)
            return ()
        for key, spec in specs.items():
            self._by_template.setdefault(key, {})[uid] = None
            self._specs[key] = spec
        self._pods[uid] = _User(text, name, tuple(specs))
        return tuple(specs)

    def _read(self, wire: Mapping[str, Any]) -> Mapping[Key, TemplateSpec]:
        """The templates that the pod carries and names. Raises ObjectRejected."""
        metadata = wire.get("metadata") or {}
        namespace = str(metadata.get("namespace", ""))
        claims = (wire.get("spec") or {}).get("resourceClaims") or ()
        named = {claim.get("resourceClaimTemplateName") for claim in claims}
        carried = templates_of(metadata, driver=self._driver, subject=f"Pod {namespace}/{metadata.get('name', '')}")
        return {Key(namespace, name): spec for name, spec in carried.items() if name in named}

    def _forget(self, uid: str) -> tuple[Key, ...]:
        user = self._pods.pop(uid, None)
        for key in user.keys if user else ():
            users = self._by_template[key]
            del users[uid]
            if not users:
                del self._by_template[key], self._specs[key]
        return user.keys if user else ()


def _needs_nothing(wire: Mapping[str, Any]) -> bool:
    metadata = wire.get("metadata") or {}
    return (
        (metadata.get("labels") or {}).get(FROM) != FROM_HAMI
        or bool(metadata.get("deletionTimestamp"))
        or (wire.get("status") or {}).get("phase") in _ENDED
    )
