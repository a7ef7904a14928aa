"""The objects of a large cluster: nodes with eight cards each, claims that hold shares, claims that wait."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

Wire = dict[str, Any]
DRIVER = "vgpu.hami.io"
CARDS = 8
CLAIMS_PER_NODE = 10
NAMESPACES = tuple(f"team-{number}" for number in range(10))
_MODELS = (("A100", 80), ("H100", 80), ("L4", 24))
_GIB = 1 << 30


def node(name: str) -> Wire:
    """A node as a kubelet registers it."""
    room = {"cpu": "64", "memory": "512Gi", "pods": "110"}
    metadata = {"name": name, "labels": {"kubernetes.io/hostname": name, "zone": f"z{hash(name) % 3}"}}
    status = {"capacity": room, "allocatable": room, "conditions": [_condition("Ready")]}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": status}


def _condition(kind: str) -> Wire:
    return {"type": kind, "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status"}


def device_class() -> Wire:
    """The class of all our cards."""
    selectors = [{"cel": {"expression": f'device.driver == "{DRIVER}"'}}]
    spec = {"selectors": selectors}
    return {"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": DRIVER}, "spec": spec}


def resource_slice(name: str, number: int) -> Wire:
    """A node's cards as the node plugin publishes them."""
    model, gib = _MODELS[number % len(_MODELS)]
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": f"0-{DRIVER}-{name}"},
        "spec": {
            "driver": DRIVER,
            "nodeName": name,
            "pool": {"name": pool(name), "generation": 1, "resourceSliceCount": 1},
            "devices": [_card(name, index, model, f"{gib}Gi") for index in range(CARDS)],
        },
    }


def pool(node_name: str) -> str:
    """The pool of a node's cards."""
    return f"{node_name}-nvidia"


def _card(name: str, index: int, model: str, memory: str) -> Wire:
    texts = {
        "vendor": "nvidia",
        "type": "gpu",
        "model": model,
        "uuid": f"GPU-{name}-{index}",
        "architecture": "ampere",
        "mode": "shared",
        "memoryIsolation": "hard",
        "computeControl": "hard",
        "resource.kubernetes.io/pciBusID": f"0000:{index:02x}:00.0",
        "resource.kubernetes.io/pcieRoot": f"pci0000:{index:02x}",
    }
    attributes: Wire = {key: {"string": text} for key, text in texts.items()}
    attributes |= {"index": {"int": index}, "driverVersion": {"version": "570.1.0"}}
    step, percent = {"min": "1Mi", "step": "1Mi", "max": memory}, {"min": "0", "step": "1", "max": "100"}
    capacity = {
        "memory": {"value": memory, "requestPolicy": {"default": memory, "validRange": step}},
        "cores": {"value": "100", "requestPolicy": {"default": "0", "validRange": percent}},
        "shares": {"value": "10", "requestPolicy": {"default": "1", "validValues": ["1"]}},
    }
    return {
        "name": f"gpu-{index}",
        "allowMultipleAllocations": True,
        "attributes": attributes,
        "capacity": capacity,
    }


def claim(namespace: str, name: str, memory: str, cores: int) -> Wire:
    """A claim for one share."""
    ask = {"deviceClassName": DRIVER, "capacity": {"requests": {"memory": memory, "cores": str(cores)}}}
    spec = {"devices": {"requests": [{"name": "slice", "exactly": ask}]}}
    metadata = {"namespace": namespace, "name": name}
    return {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": metadata, "spec": spec}


def pod(namespace: str, name: str) -> Wire:
    """A pod that waits for the claim of its name."""
    spec = {
        "resourceClaims": [{"name": "gpu", "resourceClaimName": name}],
        "containers": [{"name": "main", "image": "none", "resources": {"claims": [{"name": "gpu"}]}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": namespace, "name": name}, "spec": spec}


@dataclass
class Filling:
    """Gives out shares so that every card is nearly full: what waits then waits for a reason."""

    nodes: tuple[str, ...]
    random: random.Random = field(default_factory=lambda: random.Random(1))
    given: int = 0

    def next(self) -> tuple[str, Wire]:
        """The claim's memory, and its allocation: card after card, one share each, the rest on the first cards."""
        number, self.given = self.given, self.given + 1
        on, index = self.nodes[number // CARDS % len(self.nodes)], number % CARDS
        gib = _MODELS[self.nodes.index(on) % len(_MODELS)][1]
        part = self.random.uniform(0.75, 0.9) if number < len(self.nodes) * CARDS else 0.05
        memory = f"{int(gib * part * 1024)}Mi"
        return memory, self.allocation(on, index, memory, f"{number:08d}")

    def allocation(self, on: str, index: int, memory: str, share: str) -> Wire:
        """The status of a claim that has a share of a card."""
        result = {
            "request": "slice",
            "driver": DRIVER,
            "pool": pool(on),
            "device": f"gpu-{index}",
            "shareID": f"{share}-0000-4000-8000-000000000000",
            "consumedCapacity": {"memory": memory, "cores": "10", "shares": "1"},
        }
        terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [on]}]}]
        return {
            "allocation": {"devices": {"results": [result]}, "nodeSelector": {"nodeSelectorTerms": terms}},
            "reservedFor": [{"resource": "pods", "name": f"pod-{share}", "uid": f"uid-{share}"}],
        }
