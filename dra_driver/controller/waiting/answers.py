"""What is to be said of claims of one kind: found out by turns, kept until something changes, once for all of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass

from dra_driver.controller.waiting.metrics import WaitingMetrics
from dra_driver.explain.admission import Placing
from dra_driver.explain.explanation import Explanation
from dra_driver.explain.index import Index
from dra_driver.explain.objects import Claim
from dra_driver.explain.suggesting import Suggestion
from dra_driver.explain.surveys import Kindred, Surveys

# The server for admission and the Lease are on the same event loop.
_TURN_SECONDS = 0.005


@dataclass
class Answer:
    """An explanation, and what would help once that was asked for; good for as long as nothing else was looked at."""

    kind: Kindred
    claim: Claim
    placing: Placing
    explanation: Explanation
    looks: Hashable
    revision: int
    suggestions: tuple[Suggestion, ...] | None = None


class Answers:
    """Explains kinds of claims on facts that are kept up."""

    def __init__(self, index: Index, metrics: WaitingMetrics) -> None:
        self._index = index
        self._surveys = Surveys(index)
        self._metrics = metrics
        self._kept: dict[Kindred, Answer] = {}

    async def warm(self) -> None:
        """Work out what concerns every claim, so that the first one need not wait for it."""
        await _by_turns(self._warming())

    def _warming(self) -> Iterator[None]:
        for name in list(self._index.nodes()):
            place = self._index.place(name)
            if place is not None:
                place.warm()
            yield

    def stale(self, kind: Kindred) -> bool:
        """Whether the answer may be another one by now."""
        kept = self._kept.get(kind)
        return kept is None or (kept.revision != self._index.revision and self._surveys.stale(kind))

    def drop(self, kind: Kindred) -> None:
        """Keep the answer no more: nobody waits for it."""
        self._kept.pop(kind, None)

    async def explain(self, kind: Kindred, claim: Claim, placing: Placing) -> Answer:
        """The answer as of now. Many turns where much has changed."""
        kept = self._kept.get(kind)
        if kept is not None and kept.revision == self._index.revision:
            return kept
        survey = self._surveys.of(claim, placing, kind)
        if not survey.fresh:
            begun = time.perf_counter()
            await _by_turns(survey.work())
            self._metrics.worked(time.perf_counter() - begun)
        if kept is None or kept.looks != survey.looks or not survey.fresh:
            explanation = survey.explanation(claim.path)
            kept = self._kept[kind] = Answer(kind, claim, placing, explanation, survey.looks, self._index.revision)
        kept.revision = self._index.revision
        return kept

    async def suggestions(self, answer: Answer) -> tuple[Suggestion, ...]:
        """What would let such a claim in."""
        if answer.suggestions is None:
            survey = self._surveys.of(answer.claim, answer.placing, answer.kind)
            found: list[Suggestion] = []
            for one in self._surveys.suggest(survey, answer.explanation):
                found += [one] if one is not None else []
                await asyncio.sleep(0)
            answer.suggestions = tuple(found)
        return answer.suggestions


async def _by_turns(steps: Iterator[None] | Iterable[None]) -> None:
    end = time.perf_counter() + _TURN_SECONDS
    for _ in steps:
        if time.perf_counter() > end:
            await asyncio.sleep(0)
            end = time.perf_counter() + _TURN_SECONDS
