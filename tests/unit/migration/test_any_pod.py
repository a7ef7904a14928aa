"""Whatever a pod asks for: it is refused with a field, or mapped once and for all, and what it carries can be read."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dra_driver.errors import ObjectRejected
from dra_driver.migration.admission import Mutation, mutate
from dra_driver.migration.conventions import DEFAULT
from dra_driver.migration.markers import templates_of
from tests.unit.migration.pods_for_hami import SIXTEEN, pod
from tests.unit.migration.test_admission import applied

NAMES = st.sampled_from([*(name for one in DEFAULT for name in one.names), "cpu", "cambricon.com/vmlu"])
AMOUNTS = st.sampled_from([0, 1, 2, 5, 50, 100, "1", "3k", "500m", "x", -1, 10**12])
RESOURCES = st.dictionaries(NAMES, AMOUNTS, max_size=4)
ANNOTATIONS = st.dictionaries(
    st.sampled_from([*(name for one in DEFAULT for name in one.choice.names), "nvidia.com/numa-bind"]),
    st.sampled_from(["", "GPU-1", "A100,V100", "nvidia", "true", 'x"', "a,,b"]),
    max_size=2,
)


def containers(start: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Up to three, some of them with `restartPolicy: Always`, which says something in an init container alone."""
    one = st.tuples(RESOURCES, st.booleans())
    return st.lists(one, min_size=1, max_size=3).map(
        lambda many: [
            {
                "name": f"{start}-{index}",
                "resources": {"limits": limits},
                **({"restartPolicy": "Always"} if always and start == "init" else {}),
            }
            for index, (limits, always) in enumerate(many)
        ]
    )


def outcome(wire: dict[str, Any]) -> Mutation | ObjectRejected:
    """What is answered."""
    try:
        return mutate(wire, SIXTEEN, subject="Pod team/train")
    except ObjectRejected as refused:
        return refused


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(containers("main"), containers("init"), ANNOTATIONS)
def test_a_pod_is_refused_with_a_field_or_mapped_once_and_for_all(
    main: list[dict[str, Any]], init: list[dict[str, Any]], annotations: dict[str, str]
) -> None:
    wire = pod(*main, init=init, annotations=annotations)
    mutation = outcome(wire)
    if isinstance(mutation, ObjectRejected):
        assert mutation.path.startswith(("spec.", "metadata.annotations["))
        return
    mapped = applied(wire, mutation)
    again = mutate(mapped, SIXTEEN, subject="Pod team/train")
    assert (again.patch, again.templates) == ((), {})
    if mutation != Mutation() and mutation.patch:
        assert templates_of(mapped["metadata"], driver="vgpu.hami.io", subject="") == mutation.templates
    entries = {entry["name"]: entry["resourceClaimTemplateName"] for entry in mapped["spec"].get("resourceClaims", [])}
    assert set(entries.values()) == set(mutation.templates)
    used = [
        use
        for container in (*mapped["spec"]["containers"], *mapped["spec"]["initContainers"])
        for use in container["resources"].get("claims", [])
    ]
    assert {use["name"] for use in used} == set(entries)
    for use in used:
        requests = {request.name for request in mutation.templates[entries[use["name"]]].devices.requests}
        assert use.get("request") is None or use["request"] in requests
