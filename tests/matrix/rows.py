"""What is tried on which Kubernetes. docs/versions.md tells what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.cluster import releases

_EXAMPLES = "tests/e2e/test_examples.py"
# One of each kind: placing, limits, what a container sees, what claims and explanations say, what is left afterwards,
# what becomes of broken cards and of slots.
SHARING = (
    _EXAMPLES,
    "tests/e2e/test_memory_limits.py",
    "tests/e2e/test_compute_limits.py",
    "tests/e2e/test_cleanup.py",
    "tests/e2e/test_claim_status.py",
    "tests/e2e/test_rights.py",
    "tests/e2e/test_explain.py",
    "tests/e2e/test_controller_explains.py",
    "tests/e2e/test_health.py",
)
NO_SHARING = ("tests/matrix/test_without_sharing.py", "tests/matrix/test_status_of_others.py")
_NEXT_CARD = "its scheduler tries no other card where the first that suits is full (kubernetes/kubernetes#133705)"
_BEFORE_137: Mapping[str, str] = {
    "tests/e2e/test_explain.py::test_a_claim_kept_away_by_a_taint_gets_a_card_when_it_tolerates_it": (
        "DeviceTaintRules of resource.k8s.io/v1 came with 1.37"
    ),
}
_OLDEST: Mapping[str, str] = {
    f"{_EXAMPLES}::test_each_container_sees_its_own_requests_and_nothing_else[prioritized-list]": _NEXT_CARD,
    f"{_EXAMPLES}::test_a_prioritised_list_falls_back_when_no_card_has_room": _NEXT_CARD,
    "tests/e2e/test_cleanup.py": _NEXT_CARD,
    "tests/e2e/test_explain.py": f"most of it fills both cards: {_NEXT_CARD}",
    "tests/e2e/test_controller_explains.py": f"most of it fills both cards: {_NEXT_CARD}",
    "tests/e2e/test_health.py": "taints and health in pods' status are not switched on",
    "tests/e2e/test_claim_status.py::test_the_plugins_token_writes_no_status_for_another_node": (
        "granular authorisation of a claim's status came with 1.36"
    ),
}


@dataclass(frozen=True)
class Row:
    """One cluster and the tests that run on it."""

    name: str
    minor: str
    tests: tuple[str, ...]
    gates: str | None = None
    """As $HAMI_DRA_FEATURE_GATES has them; None: those that sharing needs on that version."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Tests that cannot pass there, and why."""


def rows() -> tuple[Row, ...]:
    """From the newest Kubernetes to the oldest; the last one without what sharing needs."""
    newest, *older = reversed(releases.known())
    oldest = releases.known()[0]
    return (
        Row(newest, newest, SHARING),
        *(Row(minor, minor, SHARING, left_out=_OLDEST if minor == oldest else _BEFORE_137) for minor in older),
        Row(f"{oldest}-default-gates", oldest, NO_SHARING, gates=""),
    )
