"""Whether a node takes a pod at all: what the scheduler looks at before it asks for cards.

Only what makes cards useless for a claim however free they are: the node is cordoned, tainted, or not selected. Room
for CPU and memory, affinity between pods and the like stay the scheduler's own business.
Source: the plugins NodeUnschedulable, TaintToleration and NodeAffinity of kube-scheduler (1.37).
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from dra_driver.explain.objects import Node, NodeSelector, Toleration, Wire
from dra_driver.explain.pools import selects
from dra_driver.explain.reasons import Code, Reason

_KEEPING_AWAY = frozenset({"NoSchedule", "NoExecute"})
_CORDON = "node.kubernetes.io/unschedulable"


class NodeAffinity(Wire):
    """Which nodes a pod can be on; preferences are left unread."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = None


class Affinity(Wire):
    """What a pod wants to be near to; only nodes matter here."""

    node_affinity: NodeAffinity = NodeAffinity()


class Placing(Wire):
    """The part of a pod's spec that decides which nodes take it."""

    node_selector: Mapping[str, str] = Field(default_factory=dict)
    affinity: Affinity = Affinity()
    tolerations: tuple[Toleration, ...] = ()


def refusal(node: Node, pod: Placing | None) -> Reason | None:
    """Why the node does not take the pod; a claim without a pod is kept away by a cordon alone."""
    taints = node.spec.taints if pod else ()
    tolerations = pod.tolerations if pod else ()
    passes = any(one.key in ("", _CORDON) and one.operator == "Exists" for one in tolerations)
    if node.spec.unschedulable and not passes:
        return Reason(Code.NODE_EXCLUDED, {"why": "it is cordoned"})
    for taint in taints:
        if taint.key == _CORDON or taint.effect not in _KEEPING_AWAY:
            continue
        if not any(toleration.covers(taint) for toleration in tolerations):
            value = f"={taint.value}" if taint.value else ""
            return Reason(Code.NODE_EXCLUDED, {"why": f"the pod does not tolerate {taint.key}{value}:{taint.effect}"})
    if pod and not _selected(node, pod):
        return Reason(Code.NODE_EXCLUDED, {"why": "the pod's node selector or affinity does not match it"})
    return None


def _selected(node: Node, pod: Placing) -> bool:
    if any(node.metadata.labels.get(name) != value for name, value in pod.node_selector.items()):
        return False
    required = pod.affinity.node_affinity.required_during_scheduling_ignored_during_execution
    return required is None or selects(required, node)
