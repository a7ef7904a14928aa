"""Finds the claims that a user means by `claim/NAME`, `pod/NAME` or a bare name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dra_driver.errors import SettingsRejected
from dra_driver.explain.objects import Claim
from dra_driver.explain.state import State

_CLAIM = frozenset({"claim", "claims", "resourceclaim", "resourceclaims"})
_POD = frozenset({"pod", "pods", "po"})


def find(state: State, objects: Sequence[Mapping[str, Any]], target: str, namespace: str) -> tuple[Claim, ...]:
    """The claim, or the claims of the pod; a bare name is a claim's before it is a pod's. Raises SettingsRejected."""
    kind, slash, name = target.partition("/")
    kind, name = (kind.lower(), name) if slash else ("", target)
    if kind and kind not in _CLAIM | _POD:
        raise SettingsRejected(f"{target}: neither a claim nor a pod")
    claim = None if kind in _POD else _claim(state, name, namespace)
    if claim is not None:
        return (claim,)
    pod = None if kind in _CLAIM else _pod(objects, name, namespace)
    if pod is None:
        raise SettingsRejected(
            f"there is no {'pod' if kind in _POD else 'claim' if kind else 'claim or pod'} {name!r} "
            f"in namespace {namespace!r}"
        )
    return _claims_of(state, pod, name, namespace)


def waiting_pod(
    state: State, objects: Sequence[Mapping[str, Any]], target: str, namespace: str
) -> Mapping[str, Any] | None:
    """The pod that is meant, unless a claim is; and only while it is on no node."""
    kind, slash, name = target.partition("/")
    if not slash:
        name = kind
    if (slash and kind.lower() not in _POD) or (not slash and _claim(state, name, namespace) is not None):
        return None
    pod = _pod(objects, name, namespace)
    return pod if pod is not None and not (pod.get("spec") or {}).get("nodeName") else None


def _claim(state: State, name: str, namespace: str) -> Claim | None:
    return next((one for one in state.claims if one.path == f"{namespace}/{name}"), None)


def _pod(objects: Sequence[Mapping[str, Any]], name: str, namespace: str) -> Mapping[str, Any] | None:
    for wire in objects:
        metadata = wire.get("metadata") or {}
        if wire.get("kind") == "Pod" and (metadata.get("namespace"), metadata.get("name")) == (namespace, name):
            return wire
    return None


def _claims_of(state: State, pod: Mapping[str, Any], name: str, namespace: str) -> tuple[Claim, ...]:
    made = (pod.get("status") or {}).get("resourceClaimStatuses") or []
    named = (pod.get("spec") or {}).get("resourceClaims") or []
    names = [one.get("resourceClaimName") for one in (*named, *made)]
    found = tuple(claim for each in dict.fromkeys(names) if each and (claim := _claim(state, each, namespace)))
    if not found:
        problem = "its claims do not exist yet" if named else "it asks for no claims"
        raise SettingsRejected(f"pod {namespace}/{name}: {problem}")
    return found
