"""The surveys that are kept, one for each kind of claim that was asked about lately.

A survey of a thousand nodes takes some megabytes, so only so many are kept; one that was dropped is made anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator

from dra_driver.explain.admission import Placing
from dra_driver.explain.explanation import Explanation
from dra_driver.explain.ground import KeptUp
from dra_driver.explain.index import Index
from dra_driver.explain.objects import Claim
from dra_driver.explain.suggesting import Suggestion, suggest_on
from dra_driver.explain.survey import Survey

_KEPT = 32

Kindred = str
"""Names all claims that ask for the same, for pods that can be on the same nodes."""


def kindred(claim: Claim, pod: Placing | None) -> Kindred:
    """What a claim and its pod have in common with others that get the same answer."""
    return f"{claim.spec.model_dump_json()} {pod.model_dump_json() if pod else ''}"


class Surveys:
    """Makes surveys, keeps the last used ones, and lets them hear of every change."""

    def __init__(self, index: Index, *, kept: int = _KEPT) -> None:
        self._index = index
        self._kept = kept
        self._surveys: OrderedDict[Kindred, Survey] = OrderedDict()
        index.tell(self._changed)

    def of(self, claim: Claim, pod: Placing | None, kind: Kindred | None = None) -> Survey:
        """The survey of such a claim; it may have something to look at first."""
        kind = kind or kindred(claim, pod)
        if kind not in self._surveys:
            self._surveys[kind] = Survey(self._index, claim, pod, lambda changed: self.of(changed, pod))
            if len(self._surveys) > self._kept:
                self._surveys.popitem(last=False)
        self._surveys.move_to_end(kind)
        return self._surveys[kind]

    def stale(self, kind: Kindred) -> bool:
        """Whether something changed since such a claim was asked about, or it was never."""
        survey = self._surveys.get(kind)
        return survey is None or not survey.fresh

    def suggest(self, survey: Survey, explanation: Explanation) -> Iterator[Suggestion | None]:
        """What would let such a claim in, one kind of change a step."""
        ground = KeptUp(self._index, survey, lambda changed: self.of(changed, survey.pod))
        return suggest_on(ground, survey.claim, explanation)

    def _changed(self, nodes: Iterable[str] | None) -> None:
        for survey in self._surveys.values():
            survey.changed(nodes)
