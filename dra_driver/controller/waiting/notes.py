"""The sentences of events about claims that wait: short enough to be read in `kubectl describe`."""

from __future__ import annotations

from dra_driver.controller.waiting.record import Record, Why
from dra_driver.explain.explanation import Verdict

_SUGGESTIONS = 2


def note(record: Record) -> str:
    """Why a claim waits."""
    causes = "; ".join(cause.words for cause in record.reasons)
    if record.verdict == Why.NOT_PREPARED:
        return f"has its cards, but the node cannot prepare them: {causes}"
    if record.verdict == Verdict.FITS:
        said = f" (the scheduler: {record.observed.message})" if record.observed else ""
        return f"{causes}{said}"
    head = "does not fit" if record.verdict == Verdict.DOES_NOT_FIT else "may not fit"
    looked = max((int(one.get("lookedAt", 0)) for one in record.funnel), default=0)
    cards = f" on any of {looked} cards" if looked > 1 else ""
    ways = " or ".join(str(one["words"]) for one in record.suggestions[:_SUGGESTIONS])
    return f"{head}{cards}: {causes}{_nearest(record)}{'. Would help: ' + ways if ways else ''}"


def _nearest(record: Record) -> str:
    near = record.nearest
    if not near or not record.reasons or len(record.reasons) > 1:
        return ""
    first = next(iter(near.get("reasons") or ()), None)
    if not first or first.get("code") != record.code:
        return ""
    return f" (nearest: {near['pool']}/{near['device']} on {near['node']})"


def end_note(record: Record, seconds: float, why: str) -> str:
    """How a wait ended."""
    return f"{why} after {_duration(seconds)}; it waited for: {record.code}"


def _duration(seconds: float) -> str:
    whole = max(0, round(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
