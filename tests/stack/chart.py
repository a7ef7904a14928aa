"""The driver as an administrator installs it: the chart and the images, on the local cluster."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import toolchain
from tests.cluster.commands import run
from tests.cluster.progress import Progress
from tests.stack.cards import NVIDIA_RUNTIME
from tests.stack.places import ROOT
from tests.stack.stack import Stack
from tools.image import recipes
from tools.setup.layout import Layout

CHART = ROOT / "deploy" / "helm" / "hami-dra"
RELEASE = "hami-dra"
NAMESPACE = "hami-dra"
NODE_LABEL = "nvidia.com/gpu.present"
Values = Mapping[str, Any]
# As the Container Toolkit's installation or NVIDIA's operator makes it.
RUNTIME_CLASS: Values = {
    "apiVersion": "node.k8s.io/v1",
    "kind": "RuntimeClass",
    "metadata": {"name": NVIDIA_RUNTIME},
    "handler": NVIDIA_RUNTIME,
}


def helm(*arguments: str, timeout: float = 300.0) -> str:
    """What helm writes. Raises CommandFailed."""
    program = toolchain.ensure(Progress(), module=toolchain.HELM) / "helm"
    return run((str(program), *arguments), timeout=timeout)


def build_images(folder: Path) -> dict[str, Path]:
    """The archives of the two images for this machine, by their names."""
    workshop = recipes.Workshop(ROOT, folder, Layout.of(ROOT, {}).cache)
    return {one.name: recipes.build(one, workshop, (platform.machine(),)).archive for one in recipes.RECIPES}


class Installation:
    """The chart on a stack's cluster. The stack's own plugin must not run, and its manifests not be applied."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder

    def values(self) -> dict[str, Any]:
        """What this machine needs: folders of the cluster's. The cards come by their runtime class, as by default."""
        paths = self._stack.cluster.paths
        return {
            "image": {"pullPolicy": "Never"},
            "kubeletplugin": {
                "settings": {"scanSeconds": 1},
                "kubeletRoot": str(paths.kubelet_root),
                "stateFolder": str(self._stack.places.state),
                "cdiFolder": str(paths.cdi_dynamic),
                "vendorCdiFolders": [str(paths.cdi_static)],
            },
        }

    def values_for_host_access(self) -> dict[str, Any]:
        """The same, but the plugin reaches the driver through the host's folders, where no runtime class brings it."""
        values, cards = self.values(), str(self._stack.places.cards)
        values["kubeletplugin"] |= {
            "nvidia": {"access": "host", "driverRoot": cards, "libraryFolders": ["lib"], "mountPropagation": "None"},
            # The simulated driver's state and devices, which a real one has in /dev.
            "extraEnv": [
                {"name": name, "value": value}
                for name, value in self._stack.cards.environment.items()
                if name != "LD_LIBRARY_PATH"
            ],
            "extraVolumes": [{"name": "cards", "hostPath": {"path": cards, "type": "Directory"}}],
            "extraVolumeMounts": [{"name": "cards", "mountPath": cards}],
        }
        return values

    def install(self, values: Values | None = None, chart: Path = CHART) -> None:
        """Install, and wait until everything is ready. Raises CommandFailed."""
        self._helm("install", chart, values or self.values(), "--create-namespace")

    def upgrade(self, values: Values, chart: Path = CHART) -> None:
        """Upgrade, and wait until everything is ready. Raises CommandFailed."""
        self._helm("upgrade", chart, values)

    def _helm(self, verb: str, chart: Path, values: Values, *more: str) -> None:
        file = self._folder / "values.yaml"
        file.write_text(yaml.safe_dump(dict(values)))
        self.run(verb, RELEASE, str(chart), "--values", str(file), "--wait", "--timeout", "3m", *more)

    def uninstall(self) -> None:
        """Take the release away, and wait until it is gone. Raises CommandFailed."""
        self.run("uninstall", RELEASE, "--wait", "--timeout", "3m")

    def clean(self) -> None:
        """Take the driver off the nodes, as docs/uninstall.md has it. Raises CommandFailed."""
        arguments = ("--reuse-values", "--set", "cleanup=true", "--wait", "--timeout", "3m")
        self.run("upgrade", RELEASE, str(CHART), *arguments)

    def revisions(self) -> list[dict[str, Any]]:
        """The release's history as helm tells it, from the oldest."""
        found: list[dict[str, Any]] = json.loads(self.run("history", RELEASE, "--output", "json"))
        return found

    def run(self, *arguments: str) -> str:
        """helm, as administrator of the cluster and in the release's namespace."""
        kubeconfig = f"--kubeconfig={self._stack.cluster.admin_kubeconfig}"
        return helm(*arguments, kubeconfig, "--namespace", NAMESPACE)
