"""docs/security.md names everything that the chart lets its pods have, and nothing that it does not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.stack.chart import CHART, helm

Document = dict[str, Any]
PAGE = Path(__file__).parents[2] / "docs/security.md"
# Together they bring every part that can be switched on, by every way to the cards.
WAYS = (
    ("networkPolicy.enabled=true", "monitoring.podMonitor.enabled=true"),
    ("kubeletplugin.nvidia.access=host",),
    ("kubeletplugin.nvidia.access=none",),
    ("cleanup=true",),
)


@lru_cache(maxsize=1)
def rendered() -> tuple[Document, ...]:
    """All objects of the chart, in all ways."""
    found: list[Document] = []
    for way in WAYS:
        switches = [word for one in way for word in ("--set", one)]
        text = helm("template", "hami-dra", str(CHART), "--namespace", "hami-dra", *switches)
        found += [one for one in yaml.safe_load_all(text) if one]
    return tuple(found)


def pod_specs() -> Iterator[tuple[str, Document]]:
    """The pods that the chart makes, by `Kind name`."""
    for one in rendered():
        name = f"{one['kind']} {one['metadata']['name']}"
        if one["kind"] == "Pod":
            yield name, one["spec"]
        elif one["kind"] in ("DaemonSet", "Deployment", "Job"):
            yield name, one["spec"]["template"]["spec"]


def containers(spec: Document) -> list[Document]:
    found: list[Document] = [*spec.get("initContainers", ()), *spec["containers"]]
    return found


def container_rights() -> set[str]:
    """What the security contexts allow beyond nothing, by pod."""
    found = set()
    for name, spec in pod_specs():
        for container in containers(spec):
            context = {**spec.get("securityContext", {}), **container.get("securityContext", {})}
            if context.get("privileged"):
                found.add(f"{name}: privileged")
            elif context.get("capabilities", {}).get("drop") != ["ALL"]:
                found.add(f"{name}: default capabilities")
            if context.get("runAsUser", 0) == 0:
                found.add(f"{name}: root")
            found |= {f"{name}: {one}" for one in context.get("capabilities", {}).get("add", ())}
        found |= {f"{name}: {one}" for one in ("hostNetwork", "hostPID", "hostIPC") if spec.get(one)}
    return found


def host_paths() -> set[str]:
    """Host folders, and whether a container may write them, by pod."""
    found = set()
    for name, spec in pod_specs():
        paths = {one["name"]: one["hostPath"]["path"] for one in spec.get("volumes", ()) if "hostPath" in one}
        for container, (volume, path) in product(containers(spec), paths.items()):
            mounts = [one for one in container.get("volumeMounts", ()) if one["name"] == volume]
            found |= {f"{name}: {path} {'read-only' if one.get('readOnly') else 'read-write'}" for one in mounts}
    return found


def ports() -> set[str]:
    """Ports that containers open, by pod."""
    return {
        f"{name}: {port['containerPort']}"
        for name, spec in pod_specs()
        for container in containers(spec)
        for port in container.get("ports", ())
    }


def api_rights() -> set[str]:
    """Verbs and resources, with the names to which they are held, by role."""
    found = set()
    for role in rendered():
        for rule in role.get("rules", ()) if role["kind"] in ("ClusterRole", "Role") else ():
            held = f" ({', '.join(rule['resourceNames'])})" if "resourceNames" in rule else ""
            for resource, verb in product(rule["resources"], rule["verbs"]):
                found.add(f"{role['kind']} {role['metadata']['name']}: {verb} {resource}{held}")
    return found


def told(heading: str) -> set[str]:
    """The rows of the table under a heading: the first two columns, their lists taken apart."""
    _, _, rest = PAGE.read_text().partition(f"\n### {heading}\n")
    section = re.split(r"\n##", rest)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:3] == "| `"]
    assert rows, f"no table under {heading}"
    assert all(len(row) == 3 and row[2] for row in rows), "each has a reason"
    found = set()
    for who, what, _ in rows:
        for pod, right in product(re.findall(r"`([^`]+)`", who), re.findall(r"`([^`]+)`", what)):
            found.add(f"{pod}: {right}")
    return found


@pytest.mark.parametrize(
    ("heading", "given"),
    [
        ("Rights of the containers", container_rights),
        ("Folders of the host", host_paths),
        ("Ports", ports),
        ("Rights at the API server", api_rights),
    ],
)
def test_the_page_and_the_chart_name_the_same(heading: str, given: Any) -> None:
    assert told(heading) == given()
