"""Plans claims on the cards as they are now, if possible before anybody asks.

Between the allocation of a claim, which the watch brings, and the kubelet's call lies the start of a pod: time enough
to plan then what must be quick later. Allocations of claims that are never prepared here must not pile up, so only the
last few plans are kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

from dra_driver.errors import HamiDraError
from dra_driver.kube.claims import Claim
from dra_driver.kubeletplugin.plan import Card, Plan, make_plan

Cards = Callable[[], Mapping[tuple[str, str], Card]]

_KEPT = 64


class Planner:
    """Plans; on the event loop."""

    def __init__(self, *, driver: str, cards: Cards) -> None:
        """`cards` gives the same mapping for as long as nothing about the cards has changed."""
        self._driver = driver
        self._cards = cards
        self._foreseen: OrderedDict[str, tuple[Claim, Mapping[tuple[str, str], Card], Plan]] = OrderedDict()

    def plan(self, claim: Claim) -> Plan:
        """Plan a claim. Raises as `make_plan`."""
        cards = self._cards()
        known, then, plan = self._foreseen.get(claim.ref.uid, (None, None, None))
        if plan is not None and known is claim and then is cards:
            return plan
        return make_plan(claim, driver=self._driver, cards=cards)

    def foresee(self, claim: Claim) -> None:
        """Hear of a claim as it is now."""
        uid, cards = claim.ref.uid, self._cards()
        self._foreseen.pop(uid, None)
        try:
            self._foreseen[uid] = claim, cards, make_plan(claim, driver=self._driver, cards=cards)
        except HamiDraError:
            # Who is asked to prepare it will be told.
            return
        if len(self._foreseen) > _KEPT:
            self._foreseen.popitem(last=False)
