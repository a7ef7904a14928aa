"""What is tried on which Kubernetes. docs/versions.md tells what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.cluster import releases

# One of each kind: placing, limits, what a container sees, what claims and explanations say, what is left afterwards.
SHARING = (
    "tests/e2e/test_examples.py",
    "tests/e2e/test_memory_limits.py",
    "tests/e2e/test_compute_limits.py",
    "tests/e2e/test_cleanup.py",
    "tests/e2e/test_claim_status.py",
    "tests/e2e/test_rights.py",
    "tests/e2e/test_explain.py",
    "tests/e2e/test_controller_explains.py",
)
NO_SHARING = ("tests/matrix/test_without_sharing.py",)
_TAINT_RULES = "DeviceTaintRules are an alpha API there, off by default"
_OLD_TAINTS: Mapping[str, str] = {
    "tests/e2e/test_explain.py::test_a_claim_kept_away_by_a_taint_gets_a_card_when_it_tolerates_it": _TAINT_RULES,
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
    left_out = {"1.34": _OLD_TAINTS, "1.35": _OLD_TAINTS}
    oldest = releases.known()[0]
    return (
        Row(newest, newest, SHARING),
        *(Row(minor, minor, SHARING, left_out=left_out.get(minor, {})) for minor in older),
        Row(f"{oldest}-default-gates", oldest, NO_SHARING, gates=""),
    )
