"""What an administrator applies is what the API server knows: a misspelt field would be dropped without a word."""

from __future__ import annotations

import pytest
import yaml

from tests.cluster.errors import CommandFailed
from tests.deploy.test_security_page import WAYS
from tests.stack.chart import CHART, helm
from tests.stack.places import EXAMPLES, MANIFESTS
from tests.stack.stack import Stack

# Of the Prometheus operator's own API, which this server does not have.
FOREIGN = ("PodMonitor",)
CHOICES = (
    "kubeletplugin.extraEnv[0].name=A",
    "kubeletplugin.podAnnotations.a=b",
    "kubeletplugin.nodeSelector.a=b",
    "controller.admission.certificateSecret=own",
    "controller.nodeSelector.a=b",
    "controller.tolerations[0].operator=Exists",
    "image.pullSecrets[0].name=own",
)


def check(stack: Stack, text: str) -> list[str]:
    """Let the server judge objects as strictly as it can, and keep none; returns their names. Raises CommandFailed."""
    how = ("--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "--output=name")
    return stack.cluster.kubectl("apply", *how, "-f", "-", input=text).split()


def test_plain_manifests_hold_no_field_that_the_server_does_not_know(stack: Stack) -> None:
    files = sorted(MANIFESTS.rglob("*.yaml"))
    assert len(check(stack, "\n---\n".join(file.read_text() for file in files))) > len(files)


def test_examples_hold_no_field_that_the_server_does_not_know(stack: Stack) -> None:
    files = sorted(EXAMPLES.rglob("*.yaml"))
    assert len(check(stack, "\n---\n".join(file.read_text() for file in files))) > len(files)


@pytest.mark.parametrize("way", [*WAYS, CHOICES], ids=lambda way: way[0])
def test_the_chart_makes_no_field_that_the_server_does_not_know(stack: Stack, way: tuple[str, ...]) -> None:
    switches = [word for one in way for word in ("--set", one)]
    text = helm("template", "hami-dra", str(CHART), "--namespace", "hami-dra", *switches)
    objects = [one for one in yaml.safe_load_all(text) if one and one["kind"] not in FOREIGN]
    assert len(check(stack, yaml.safe_dump_all(objects))) == len(objects)


def test_a_misspelt_field_would_be_found(stack: Stack) -> None:
    text = (MANIFESTS / "workloads/kubeletplugin.yaml").read_text()
    with pytest.raises(CommandFailed, match="maxSurges"):
        check(stack, text.replace("maxSurge:", "maxSurges:"))
