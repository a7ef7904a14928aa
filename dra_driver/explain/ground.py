"""What suggestions are tried on: a whole state, or facts that are kept up, with the same questions to both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from dra_driver.explain.admission import Placing
from dra_driver.explain.deciding import fits
from dra_driver.explain.explanation import Explanation, Verdict, Verdicted, nearness
from dra_driver.explain.index import Index
from dra_driver.explain.objects import Claim, Metadata, Node
from dra_driver.explain.reasons import Code
from dra_driver.explain.state import State
from dra_driver.explain.survey import Survey


class Ground(Protocol):
    """Where a change can be tried."""

    @property
    def pod(self) -> Placing | None:
        """The pod that waits for the claim."""
        ...

    def near(self, node: str) -> State:
        """The facts of one node."""
        ...

    def fits(self, claim: Claim) -> bool:
        """Whether a changed claim fits anywhere."""
        ...

    def refused(self, codes: frozenset[Code], limit: int) -> list[Verdicted]:
        """Cards that are refused for reasons of these codes alone, the nearest first."""
        ...

    def promising(self, limit: int) -> list[str]:
        """Nodes with cards that some request would take, those with the most first."""
        ...


@dataclass(frozen=True)
class WholeState:
    """A state and an explanation made from it."""

    state: State
    explanation: Explanation
    pod: Placing | None

    def near(self, node: str) -> State:
        """See Ground."""
        known = next((one for one in self.state.nodes if one.metadata.name == node), None)
        return replace(self.state, nodes=(known or Node(metadata=Metadata(name=node)),))

    def fits(self, claim: Claim) -> bool:
        """See Ground."""
        return fits(self.state, (claim,), pod=self.pod)

    def refused(self, codes: frozenset[Code], limit: int) -> list[Verdicted]:
        """See Ground."""
        found = (card for card in self.explanation.cards if only((one.code for one in card.reasons), codes))
        return sorted(found, key=nearness)[:limit]

    def promising(self, limit: int) -> list[str]:
        """See Ground."""
        return _fullest(Counter(one.node for one in self.explanation.cards if not one.reasons), limit)


@dataclass(frozen=True)
class KeptUp:
    """A survey and its index; `of` gives the survey of a changed claim."""

    index: Index
    survey: Survey
    of: Callable[[Claim], Survey]

    @property
    def pod(self) -> Placing | None:
        """See Ground."""
        return self.survey.pod

    def near(self, node: str) -> State:
        """See Ground."""
        place = self.index.place(node)
        return place.state if place else State()

    def fits(self, claim: Claim) -> bool:
        """See Ground."""
        survey = self.of(claim)
        survey.refresh()
        return survey.verdict is Verdict.FITS

    def refused(self, codes: frozenset[Code], limit: int) -> list[Verdicted]:
        """See Ground."""
        return self.survey.nearest_cards(lambda found: only(found, codes), limit)

    def promising(self, limit: int) -> list[str]:
        """See Ground."""
        return _fullest(self.survey.fitting(), limit)


def only(found: Iterable[Code], codes: frozenset[Code]) -> bool:
    """Whether there are any, and all are of these codes."""
    found = tuple(found)
    return bool(found) and codes.issuperset(found)


def _fullest(cards: Counter[str], limit: int) -> list[str]:
    return sorted(cards, key=lambda name: (-cards[name], name))[:limit]
