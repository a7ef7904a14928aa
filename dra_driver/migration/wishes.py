"""What a pod wishes beside its amounts and cannot have here.

Refused is what the pod relies on: without it, it would not run, or not with the isolation that it asks for. A wish
about placement is warned about: the pod runs as well without.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from dra_driver.errors import ObjectRejected
from dra_driver.migration.conventions import ASCEND_MODE, CARD_POLICY, MODE, NODE_POLICY, SCORING, SHARED_MODE

# Packing cards is what the scheduler does by itself: it takes the first card with room.
_PACKED = (CARD_POLICY, "binpack")


def check(
    spec: Mapping[str, Any], annotations: Mapping[str, str], vendors: Collection[str], *, subject: str, path: str
) -> None:
    """Refuse a pod that asks for cards of these vendors in a way that there is not. Raises ObjectRejected."""
    dot = f"{path}." if path else ""
    if spec.get("nodeName") and vendors:
        problem = "a pod that no scheduler places gets no cards; use nodeSelector with kubernetes.io/hostname"
        raise ObjectRejected(subject, f"{dot}spec.nodeName", problem)
    mode = annotations.get(MODE, "")
    if mode and "nvidia" in vendors and SHARED_MODE not in mode:
        problem = f"mode {mode!r} is not there: cards are shared by memory and compute ({SHARED_MODE})"
        raise ObjectRejected(subject, f"{dot}metadata.annotations[{MODE}]", problem)
    if annotations.get(ASCEND_MODE) == SHARED_MODE and "ascend" in vendors:
        problem = f"mode {SHARED_MODE!r} is not there: Ascend cards are divided by templates"
        raise ObjectRejected(subject, f"{dot}metadata.annotations[{ASCEND_MODE}]", problem)


def without_effect(annotations: Mapping[str, str], path: str) -> Iterator[str]:
    """Warn about wishes that Kubernetes' scheduler does not take from a pod."""
    dot = f"{path}." if path else ""
    for name in (NODE_POLICY, CARD_POLICY, SCORING):
        wish = annotations.get(name, "")
        if wish and (name, wish) != _PACKED:
            yield f"{dot}metadata.annotations[{name}]: {wish!r} has no effect: the scheduler chooses node and card"
