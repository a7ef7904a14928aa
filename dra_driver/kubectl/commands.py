"""What each command answers: lines for people, plain values for programs, and the exit code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dra_driver.errors import SettingsRejected
from dra_driver.explain.amounts import write
from dra_driver.explain.counting import copies
from dra_driver.explain.deciding import outcomes
from dra_driver.explain.explanation import Explanation, Verdict, explain
from dra_driver.explain.objects import Claim
from dra_driver.explain.pods import read_pod
from dra_driver.explain.state import State, asks_for, parse_claim
from dra_driver.explain.suggesting import Suggestion, suggest
from dra_driver.explain.wording import text, wire
from dra_driver.kubectl.cards import card_rows, node_rows, result_text, uses_wire
from dra_driver.kubectl.tables import bar, table

FITS, DOES_NOT_FIT, UNKNOWN = 0, 2, 3
_MOST = 256
_EXIT = {Verdict.FITS: FITS, Verdict.ALLOCATED: FITS, Verdict.DOES_NOT_FIT: DOES_NOT_FIT, Verdict.UNKNOWN: UNKNOWN}


@dataclass(frozen=True)
class Answer:
    """Lines, plain values, exit code."""

    lines: str
    values: Any
    code: int = FITS


def nodes(state: State, driver: str) -> Answer:
    """Nodes with cards, and how full they are."""
    rows = node_rows(card_rows(state, driver))
    names = sorted({name for row in rows for name in row.uses})
    head = ("NODE", "CARDS", *(name.upper() for name in names), "TAINTED")
    lines = [
        (row.node, str(row.cards), *(_use(row.uses, name) for name in names), str(row.tainted or "")) for row in rows
    ]
    values = [
        {"node": row.node, "cards": row.cards, "tainted": row.tainted, "capacity": uses_wire(row.uses)} for row in rows
    ]
    return Answer(table(head, lines) if rows else f"No cards of {driver}.", values)


def devices(state: State, driver: str) -> Answer:
    """Cards, how full they are, and who has what of them."""
    rows = card_rows(state, driver)
    names = sorted({name for row in rows for name in row.uses})
    head = ("NODE", "DEVICE", "MODEL", *(name.upper() for name in names), "TAINTS", "CLAIMS")
    lines = []
    for row in rows:
        claims = "; ".join(f"{held.claim} ({_held(held.amounts)})" for held in row.holders)
        uses = (_use(row.uses, name) for name in names)
        lines.append((row.node, row.id[2], row.model, *uses, ",".join(row.taints), claims))
    values = [
        {
            "node": row.node,
            "driver": row.id[0],
            "pool": row.id[1],
            "device": row.id[2],
            "model": row.model,
            "capacity": uses_wire(row.uses),
            "whole": row.whole,
            "taints": list(row.taints),
            "claims": [{"claim": held.claim, "amounts": dict(held.amounts)} for held in row.holders],
        }
        for row in rows
    ]
    return Answer(table(head, lines) if rows else f"No cards of {driver}.", values)


def _use(uses: Mapping[str, Any], name: str) -> str:
    use = uses.get(name)
    return "" if use is None else f"{bar(use.used, use.total)} {write(use.used)}/{write(use.total)}"


def _held(amounts: Mapping[str, str]) -> str:
    shown = {name: amount for name, amount in amounts.items() if name != "shares"}
    return ", ".join(f"{name} {amount}" for name, amount in sorted(shown.items())) or "whole card"


def claims(state: State, driver: str, namespace: str) -> Answer:
    """Claims that have cards of the driver, and claims that wait, with the first reason; empty namespace: all."""
    lines, values = [], []
    for claim in state.claims:
        if namespace not in ("", claim.metadata.namespace) or not asks_for(driver, claim, state.classes):
            continue
        explained = explain(state, claim)
        why = "; ".join(f"{reason.code}: {reason.words}" for reason in explained.reasons)
        cards = "; ".join(f"{one.device} ({result_text(one)})" for one in claim.results)
        users = ", ".join(one.name for one in claim.status.reserved_for)
        status = {Verdict.FITS: "Waiting"}.get(explained.verdict, str(explained.verdict))
        lines.append((claim.metadata.namespace, claim.metadata.name, status, cards or why, users))
        values.append({**wire(explained), "usedBy": [one.name for one in claim.status.reserved_for]})
    head = ("NAMESPACE", "NAME", "STATE", "CARDS OR REASON", "USED BY")
    return Answer(table(head, lines) if lines else "No claims.", values)


def explain_claims(state: State, found: Sequence[Claim], pod: Mapping[str, Any] | None = None) -> Answer:
    """Why these claims (those of a pod, or one) have cards, get some, or wait; and what the scheduler told the pod."""
    placing, observed = read_pod(pod) if pod is not None else (None, None)
    explained = [explain(state, claim, placing) for claim in found]
    suggestions = [suggest(state, claim, one, placing) for claim, one in zip(found, explained, strict=True)]
    parts = [text(one, ways) for one, ways in zip(explained, suggestions, strict=True)]
    values = [wire(one, ways) for one, ways in zip(explained, suggestions, strict=True)]
    code = max(_EXIT[one.verdict] for one in explained)
    waiting = [claim for claim in found if claim.status.allocation is None]
    together = outcomes(state, waiting, pod=placing)
    if code == FITS and len(waiting) > 1 and not any(one.grants for one in together):
        parts.append("Each claim fits, but no node has room for all of them at once.")
        code = DOES_NOT_FIT
    if observed is not None:
        parts.append(f"The scheduler said of the pod: {observed.message}")
        said = {"reason": observed.reason, "message": observed.message, "since": observed.since}
        values = [{**one, "observed": said} for one in values]
    return Answer("\n\n".join(parts), values if len(values) > 1 else values[0], code)


def fit(state: State, manifests: Sequence[Mapping[str, Any]], namespace: str) -> Answer:
    """Whether claims (or templates) that do not exist yet would fit, where, and how often."""
    wanted = [_manifest(one, namespace) for one in manifests]
    found = [claim for claim in wanted if claim is not None]
    if not found:
        raise SettingsRejected("the file holds neither a ResourceClaim nor a ResourceClaimTemplate")
    answers = [_fit(state, claim) for claim in found]
    values = [answer.values for answer in answers]
    lines = "\n\n".join(answer.lines for answer in answers)
    return Answer(lines, values if len(values) > 1 else values[0], max(answer.code for answer in answers))


def _fit(state: State, claim: Claim) -> Answer:
    explained: Explanation = explain(state, claim)
    ways: tuple[Suggestion, ...] = suggest(state, claim, explained)
    room = copies(state, claim, _MOST) if explained.verdict is Verdict.FITS else {}
    total = sum(room.values())
    lines = text(explained, ways)
    if total:
        each = ", ".join(f"{number} on {node}" for node, number in sorted(room.items()))
        lines += f"\nRoom for {'at least ' if total >= _MOST else ''}{total} of this kind: {each}"
    return Answer(lines, {**wire(explained, ways), "room": room}, _EXIT[explained.verdict])


def _manifest(manifest: Mapping[str, Any], namespace: str) -> Claim | None:
    """The claim that a manifest would make, under a name that no claim can have."""
    if manifest.get("kind") not in ("ResourceClaim", "ResourceClaimTemplate"):
        return None
    spec = manifest.get("spec") or {}
    if manifest["kind"] == "ResourceClaimTemplate":
        spec = spec.get("spec") or {}
    given = manifest.get("metadata") or {}
    metadata = {"namespace": given.get("namespace") or namespace, "name": f"fit:{given.get('name', 'claim')}"}
    return parse_claim({"kind": manifest["kind"], "metadata": metadata, "spec": spec})
