"""What is known of the cluster as far as waiting goes, kept up from the watch: the half that never writes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dra_driver.controller.observing import Change, Kind
from dra_driver.controller.waiting.news import ClaimNews, PodNews, read_claim, read_pod
from dra_driver.controller.waiting.record import Record, read_record
from dra_driver.explain.index import Index
from dra_driver.explain.objects import Claim
from dra_driver.explain.state import parse_state

_KINDS = {
    Kind.SLICES: "ResourceSlice",
    Kind.CLASSES: "DeviceClass",
    Kind.NODES: "Node",
    Kind.TAINT_RULES: "DeviceTaintRule",
}


@dataclass(eq=False)
class Watched:
    """A claim that waits, or of which something was said; `seen` is when it began to, by our clock."""

    news: ClaimNews
    record: Record | None
    seen: float
    since: str
    fitting_since: float | None = None
    quiet_until: float = 0.0
    writes: int = 0
    writing: bool = False
    wanted: dict[str, PodNews] = field(default_factory=dict)

    @property
    def claim(self) -> Claim:
        """The claim."""
        return self.news.claim

    @property
    def uid(self) -> str:
        """Its UID."""
        return self.claim.metadata.uid

    @property
    def pod(self) -> PodNews | None:
        """The pod that waits for it, the first by name; None where none does."""
        return self.wanted[min(self.wanted)] if self.wanted else None

    @property
    def waits(self) -> bool:
        """Whether it may have to be explained."""
        return bool(self.news.unready) if self.news.allocated else bool(self.wanted)


class Picture:
    """All objects that matter. `news` is called with each claim about which something changed that matters here."""

    def __init__(
        self,
        driver: str,
        *,
        clock: Callable[[], float],
        now: Callable[[], str],
        news: Callable[[Watched], None],
        gone: Callable[[str], None],
    ) -> None:
        self.index = Index()
        self.claims: dict[str, Watched] = {}
        self._driver = driver
        self._clock = clock
        self._now = now
        self._news = news
        self._gone = gone
        self._uids: dict[tuple[str, str], str] = {}
        self._pods: dict[tuple[str, str], PodNews] = {}
        self._wanting: dict[tuple[str, str], dict[str, PodNews]] = defaultdict(dict)

    def saw(self, kind: Kind, change: Change, wire: Mapping[str, Any]) -> None:
        """Take an object. Raises ObjectRejected."""
        gone = change is Change.DELETED
        if kind is Kind.CLAIMS:
            self._claim_ended(str(wire["metadata"]["uid"])) if gone else self._claim(wire, change)
        elif kind is Kind.PODS:
            self._pod(wire, gone=gone)
        else:
            self._fact(kind, wire, gone=gone)

    def _fact(self, kind: Kind, wire: Mapping[str, Any], *, gone: bool) -> None:
        name = str(wire["metadata"]["name"])
        state = parse_state([{**wire, "kind": _KINDS[kind]}] if not gone else [])
        if kind is Kind.SLICES:
            self.index.put_slice(name, next(iter(state.slices), None))
        elif kind is Kind.CLASSES:
            self.index.put_class(name, next(iter(state.classes.values()), None))
        elif kind is Kind.NODES:
            self.index.put_node(name, next(iter(state.nodes), None))
        else:
            self.index.put_rule(name, next(iter(state.taint_rules), None))

    def _claim(self, wire: Mapping[str, Any], change: Change) -> None:
        news = read_claim(wire, self._driver)
        uid = news.claim.metadata.uid
        self.index.put_claim(uid, news.claim)
        known = self.claims.get(uid)
        if news.allocated and not news.unready and news.written is None:
            if known is not None:
                self._forget(known)
            return
        if known is None:
            since = self._now() if change is Change.MODIFIED else news.created
            self._watch(Watched(news, read_record(news.written), self._clock(), since))
            return
        before, known.news = known.news, news
        known.record = read_record(news.written)
        if (before.allocated, before.unready, before.written) != (news.allocated, news.unready, news.written):
            self._changed(known)

    def _watch(self, one: Watched) -> None:
        name = one.claim.metadata.namespace, one.claim.metadata.name
        self.claims[one.uid] = one
        self._uids[name] = one.uid
        one.wanted = dict(self._wanting.get(name, {}))
        self._changed(one)

    def _changed(self, one: Watched) -> None:
        if one.waits or one.record is not None:
            self._news(one)

    def _claim_ended(self, uid: str) -> None:
        self.index.put_claim(uid, None)
        known = self.claims.get(uid)
        if known is not None:
            self._forget(known)

    def _forget(self, one: Watched) -> None:
        del self.claims[one.uid]
        name = one.claim.metadata.namespace, one.claim.metadata.name
        if self._uids.get(name) == one.uid:
            del self._uids[name]
        self._gone(one.uid)

    def _pod(self, wire: Mapping[str, Any], *, gone: bool) -> None:
        name = str(wire["metadata"]["namespace"]), str(wire["metadata"]["name"])
        news = None if gone else read_pod(wire)
        before = self._pods.pop(name, None)
        if news is not None:
            self._pods[name] = news
        if news == before:
            return
        claims = (before.claims if before else frozenset()) | (news.claims if news else frozenset())
        for claim in claims:
            self._wants((name[0], claim), name[1], news if news and claim in news.claims else None)

    def _wants(self, claim: tuple[str, str], pod: str, news: PodNews | None) -> None:
        wanting = self._wanting[claim]
        if news is None:
            wanting.pop(pod, None)
        else:
            wanting[pod] = news
        if not wanting:
            del self._wanting[claim]
        known = self.claims.get(self._uids.get(claim, ""))
        if known is None:
            return
        if not known.wanted and wanting:
            known.seen = self._clock()
        known.wanted = dict(wanting)
        self._changed(known)
