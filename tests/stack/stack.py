"""Brings cluster, cards and driver up in the order in which they need each other."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.cluster import Cluster
from tests.cluster.errors import ClusterError
from tests.cluster.images import probe
from tests.cluster.launching import Options
from tests.cluster.paths import local_paths
from tests.cluster.progress import Progress
from tests.stack.cards import NVIDIA_RUNTIME, SimulatedCards
from tests.stack.places import Places, places_for
from tests.stack.plugin import DRIVER, NodePlugin


def cluster_options(folder: Path | None = None, environ: Mapping[str, str] = os.environ) -> Options:
    """What a local cluster must have to carry a stack."""
    runtimes = {NVIDIA_RUNTIME: SimulatedCards.runtime(local_paths(folder, environ).for_tests.cdi_static)}
    return Options(images=[probe.archive()], runtimes=runtimes)


@dataclass(frozen=True)
class Stack:
    """A node with cards and a running driver."""

    cluster: Cluster
    places: Places
    cards: SimulatedCards
    plugin: NodePlugin

    @classmethod
    def up(
        cls,
        folder: Path | None = None,
        environ: Mapping[str, str] = os.environ,
        *,
        cards: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> Stack:
        """Bring everything up that is not up yet, on the cluster of $KUBECONFIG or on a local one.

        `cards`: a file that describes other cards than the usual two; `settings`: of the plugin, at every start.
        """
        progress = Progress()
        if environ.get("KUBECONFIG"):
            cluster = Cluster.existing(Path(environ["KUBECONFIG"]), environ)
        else:
            cluster = Cluster.up(folder, cluster_options(folder, environ), progress)
        stack = cls.on(cluster, settings)
        stack.cards.install(cards)
        progress.say("simulated cards installed")
        stack.plugin.install()
        stack.plugin.start()
        stack.wait_published()
        progress.say("node plugin runs, cards are published")
        return stack

    @classmethod
    def on(cls, cluster: Cluster, settings: Mapping[str, str] | None = None) -> Stack:
        """The stack on a cluster, whatever its state."""
        places = places_for(cluster)
        cards = SimulatedCards(places.cards, cluster.paths.cdi_static)
        environment = {**cards.environment, **cluster.control.environment()}
        return cls(cluster, places, cards, NodePlugin(cluster, places, environment, settings=settings))

    def slices(self) -> list[dict[str, Any]]:
        """The slices that the driver has published for this node."""
        fields = f"spec.driver={DRIVER},spec.nodeName={self.cluster.node_name}"
        items: list[dict[str, Any]] = self.cluster.get("resourceslices", f"--field-selector={fields}")["items"]
        return items

    def wait_published(self, timeout: float = 60.0) -> None:
        """Return when the cards are in slices. Raises ClusterError with the end of the plugin's log."""
        deadline = time.monotonic() + timeout
        while not any(wire["spec"].get("devices") for wire in self.slices()):
            if time.monotonic() > deadline:
                raise ClusterError(f"no cards published after {timeout:.0f} s:\n{self.plugin.log[-2000:]}")
            time.sleep(0.2)

    def down(self) -> None:
        """Take the driver and the cards away; a local cluster too."""
        self.plugin.stop()
        if self.cluster.is_local:
            self.cluster.down(Progress())
        else:
            self.plugin.uninstall()
            self.cards.remove()
            shutil.rmtree(self.places.processes.folder)
