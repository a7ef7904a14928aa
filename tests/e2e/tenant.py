"""A user of the cluster: applies manifests in a namespace and looks at what becomes of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.errors import CommandFailed
from tests.cluster.images.probe import IMAGE
from tests.stack.plugin import DRIVER
from tests.stack.stack import Stack
from tests.waiting import eventually

Wire = dict[str, Any]


@dataclass(frozen=True)
class Granted:
    """One result of an allocation. `consumed` is None for a whole device; `host_memory` is a quantity, "0" for none."""

    request: str
    device: str
    share_id: str | None
    consumed: Mapping[str, str] | None
    host_memory: str = "0"


class Tenant:
    """What one namespace holds."""

    def __init__(self, stack: Stack, namespace: str) -> None:
        self.stack = stack
        self.namespace = namespace

    def create(self) -> None:
        """Make the namespace; pods can be made in it once it has its default service account."""
        self.stack.cluster.kubectl("create", "namespace", self.namespace)
        eventually(lambda: self.try_get("serviceaccount", "default"), what="default service account")

    def remove(self) -> None:
        """Delete everything, and wait until the node has let go of it."""
        claims = self.every("resourceclaims")
        uids = {claim["metadata"]["uid"] for claim in claims}
        self.kubectl("delete", "pods", "--all", "--wait=true", "--timeout=60s")
        eventually(lambda: not uids & self.prepared(), what="all claims of the namespace unprepared")
        # Those of pods go with them. The namespace takes its time, in which the others would hold room on cards.
        for claim in claims:
            if "ownerReferences" not in claim["metadata"]:
                self.kubectl("delete", "resourceclaim", claim["metadata"]["name"], "--ignore-not-found")
        self.stack.cluster.kubectl("delete", "namespace", self.namespace, "--wait=false")

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl in the namespace."""
        return self.stack.cluster.kubectl("--namespace", self.namespace, *arguments, input=stdin)

    def apply_folder(self, folder: Path) -> list[Wire]:
        """Apply an example; returns its pods as written."""
        self.kubectl("apply", "-f", str(folder))
        documents = [document for file in sorted(folder.glob("*.yaml")) for document in _documents(file)]
        return [document for document in documents if document["kind"] == "Pod"]

    def apply(self, *objects: Wire) -> None:
        """Apply objects."""
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def get(self, kind: str, name: str) -> Wire:
        """Read one object."""
        found: Wire = json.loads(self.kubectl("get", kind, name, "-o", "json"))
        return found

    def try_get(self, kind: str, name: str) -> Wire | None:
        """Read one object, if it is there."""
        try:
            return self.get(kind, name)
        except CommandFailed:
            return None

    def every(self, kind: str) -> list[Wire]:
        """Read all objects of a kind."""
        found: list[Wire] = json.loads(self.kubectl("get", kind, "-o", "json"))["items"]
        return found

    def delete(self, kind: str, name: str) -> None:
        """Delete one object, and wait until it is gone."""
        self.kubectl("delete", kind, name, "--wait=true", "--timeout=60s")

    def wait_running(self, pod: str) -> Wire:
        """Wait until all containers of a pod run; returns the pod."""

        def running() -> Wire | None:
            wire = self.get("pod", pod)
            statuses = wire["status"].get("containerStatuses") or []
            return wire if statuses and all("running" in status["state"] for status in statuses) else None

        return eventually(running, what=f"pod {pod} runs; events: {self.events(pod)}")

    def events(self, name: str) -> list[str]:
        """The events of an object, as `reason: message`."""
        wanted = f"involvedObject.name={name}"
        items = json.loads(self.kubectl("get", "events", f"--field-selector={wanted}", "-o", "json"))["items"]
        return [f"{item['reason']}: {item['message']}" for item in items]

    def told(self, pod: str, container: str = "main") -> Wire:
        """The first line that a container has told, once it has told one."""

        def line() -> Wire | None:
            lines = self.kubectl("logs", pod, "-c", container).splitlines()
            return json.loads(lines[0]) if lines else None

        return eventually(line, what=f"{pod}/{container} tells what it sees")

    def run(self, pod: str, *command: str) -> Wire:
        """Run a program of the probe image in a pod; returns the last line that it tells."""
        told: Wire = json.loads(self.kubectl("exec", pod, "--", *command).splitlines()[-1])
        return told

    def show(self, pod: str) -> Wire:
        """What a new process in a pod sees of its cards now."""
        return self.run(pod, "vgpu-probe", "show")

    def claims_of(self, pod: str) -> dict[str, Wire]:
        """The claims of a pod, by the name that the pod has for them."""
        statuses = self.get("pod", pod)["status"].get("resourceClaimStatuses") or []
        made = {status["name"]: status["resourceClaimName"] for status in statuses}
        named = {
            entry["name"]: entry["resourceClaimName"]
            for entry in self.get("pod", pod)["spec"].get("resourceClaims") or []
            if "resourceClaimName" in entry
        }
        return {name: self.get("resourceclaim", claim) for name, claim in {**made, **named}.items()}

    def granted(self, pod: str, container: Wire) -> list[Granted]:
        """What the allocation grants to one container of a pod, by the claims and requests that it names."""
        claims = self.claims_of(pod)
        return [
            grant
            for entry in container["resources"]["claims"]
            for grant in grants(claims[entry["name"]])
            if entry.get("request") in (None, grant.request.partition("/")[0])
        ]

    def prepared(self) -> set[str]:
        """The UIDs of all claims in the plugin's checkpoint."""
        return {claim["uid"] for claim in self.stack.plugin.prepared()}


def grants(claim: Wire) -> list[Granted]:
    """The results of a claim that are ours."""
    devices: Wire = claim["status"]["allocation"]["devices"]
    return [
        Granted(
            result["request"],
            result["device"],
            result.get("shareID"),
            result.get("consumedCapacity"),
            _host_memory(devices, result["request"]),
        )
        for result in devices["results"]
        if result["driver"] == DRIVER
    ]


def _host_memory(devices: Wire, request: str) -> str:
    """What the last config for a request says of the host's memory; the examples write it in the claim only."""
    told = "0"
    for config in devices.get("config") or []:
        if request in (config.get("requests") or [request]) and config["opaque"]["driver"] == DRIVER:
            memory = config["opaque"]["parameters"].get("memory") or {}
            told = (memory.get("oversubscribe") or {}).get("hostMemory", told)
    return told


def template(name: str, requests: Mapping[str, Mapping[str, str]], **devices: Any) -> Wire:
    """A claim template with one exact request for each name, with these capacities."""
    wire_requests = [
        {
            "name": request,
            "exactly": {"deviceClassName": DRIVER, "capacity": {"requests": dict(capacity)}},
        }
        for request, capacity in requests.items()
    ]
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": name},
        "spec": {"spec": {"devices": {"requests": wire_requests, **devices}}},
    }


def pod(name: str, command: str, *, claim_template: str = "", claim: str = "") -> Wire:
    """A pod with one container and one claim, from a template or by name."""
    source = {"resourceClaimTemplateName": claim_template} if claim_template else {"resourceClaimName": claim}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "restartPolicy": "Never",
            "resourceClaims": [{"name": "gpu", **source}],
            "containers": [
                {
                    "name": "main",
                    "image": IMAGE,
                    "imagePullPolicy": "Never",
                    "command": ["sh", "-c", command],
                    "resources": {"claims": [{"name": "gpu"}]},
                }
            ],
        },
    }


def _documents(file: Path) -> list[Wire]:
    return [document for document in yaml.safe_load_all(file.read_text()) if document]
