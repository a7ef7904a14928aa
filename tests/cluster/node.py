"""The configuration of containerd, CNI and the kubelet.

Nothing of theirs lies outside the folder that can be put inside, and they run on poor machines: no
AppArmor, few capabilities, cgroup v1.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence

import yaml

from tests.cluster import debian
from tests.cluster.control_plane import Blueprint

PAUSE_IMAGE = "hami-dra.test/pause:1"
# What no pod here needs, and what would look for devices, services or folders outside ours.
DISABLED_PLUGINS = (
    *("io.containerd.nri.v1.nri", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"),
    *(f"io.containerd.snapshotter.v1.{kind}" for kind in ("blockfile", "btrfs", "devmapper", "erofs", "zfs")),
    *("io.containerd.image-verifier.v1.bindir", "io.containerd.ttrpc.v1.otelttrpc"),
)


def cni_network(plan: Blueprint) -> str:
    """The name that CNI files its leases and results under."""
    return plan.network.bridge


def write_cni_config(plan: Blueprint) -> None:
    """One network: the cluster's bridge. Not as gateway: that would switch on the machine's forwarding."""
    bridge = {
        "type": "bridge",
        "bridge": plan.network.bridge,
        "isGateway": False,
        "ipMasq": False,
        "ipam": {
            "type": "host-local",
            "dataDir": str(plan.paths.folder / "cni/ipam"),
            "ranges": [[{"subnet": plan.network.pods, "gateway": plan.network.gateway}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    content = {"cniVersion": "1.0.0", "name": cni_network(plan), "plugins": [bridge]}
    (plan.paths.folder / "cni/net.d/10-cluster.conflist").write_text(json.dumps(content, indent=2))


def write_containerd_config(plan: Blueprint) -> None:
    """containerd's own defaults but for places, CDI folders and what the machine lacks."""
    folder, tests = plan.paths.folder, plan.paths.for_tests
    sections: dict[str, Mapping[str, object]] = {
        "plugins.'io.containerd.server.v1.grpc'": {"address": plan.paths.containerd_socket},
        "plugins.'io.containerd.server.v1.ttrpc'": {"address": f"{plan.paths.containerd_socket}.ttrpc"},
        "plugins.'io.containerd.shim.v1.manager'": {"socket_dir": folder / "s"},
        "plugins.'io.containerd.internal.v1.opt'": {"path": folder / "containerd/opt"},
        "plugins.'io.containerd.cri.v1.images'": {"snapshotter": "overlayfs"},
        "plugins.'io.containerd.cri.v1.images'.pinned_images": {"sandbox": PAUSE_IMAGE},
        "plugins.'io.containerd.cri.v1.runtime'": {
            "cdi_spec_dirs": [str(tests.cdi_static), str(tests.cdi_dynamic)],
            "disable_apparmor": True,
            "restrict_oom_score_adj": True,
            "netns_mounts_under_state_dir": True,
        },
        "plugins.'io.containerd.cri.v1.runtime'.cni": {
            # The loopback plugin would leave a file outside the folder for every pod.
            "use_internal_loopback": True,
            "bin_dirs": [str(debian.cni_folder())],
            "conf_dir": folder / "cni/net.d",
        },
        **_runtime(plan, "runc", debian.program("runc")),
    }
    for name, command in plan.runtimes.items():
        sections |= _runtime(plan, name, _one_program(plan, name, command))
    top = {
        "version": 4,
        "root": folder / "containerd/root",
        "state": folder / "containerd/state",
        "imports": [],
        "disabled_plugins": list(DISABLED_PLUGINS),
    }
    plan.paths.config("containerd.toml").write_text(_toml(top, sections))


def _runtime(plan: Blueprint, name: str, program: str) -> dict[str, Mapping[str, object]]:
    section = f"plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.{name}"
    options = {"BinaryName": program, "Root": plan.paths.folder / "runc", "SystemdCgroup": False}
    return {section: {"runtime_type": "io.containerd.runc.v2"}, f"{section}.options": options}


def _one_program(plan: Blueprint, name: str, command: Sequence[str]) -> str:
    """containerd can give a runtime no arguments of its own: a script that does, and its place."""
    script = plan.paths.config(f"runtime-{name}")
    script.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    script.chmod(0o755)
    return str(script)


def _toml(top: Mapping[str, object], sections: Mapping[str, Mapping[str, object]]) -> str:
    # JSON's strings, lists, numbers and booleans are TOML's, too.
    def lines(values: Mapping[str, object]) -> list[str]:
        return [f"{name} = {json.dumps(value, default=str)}" for name, value in values.items()]

    blocks = ["\n".join(lines(top))]
    blocks += ["\n".join([f"[{name}]", *lines(values)]) for name, values in sections.items()]
    return "\n\n".join(blocks) + "\n"


def containerd(plan: Blueprint) -> list[str]:
    """containerd's command line."""
    return [plan.program("containerd"), "--config", str(plan.paths.config("containerd.toml"))]


def write_kubelet_config(plan: Blueprint) -> None:
    """The kubelet's configuration file."""
    own, network = plan.certificates["kubelet"], plan.network
    content = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network.node_address,
        "port": network.kubelet_port,
        "healthzBindAddress": network.node_address,
        "healthzPort": network.kubelet_health_port,
        "tlsCertFile": str(own.cert),
        "tlsPrivateKeyFile": str(own.key),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True, "cacheTTL": "10s"},
            "x509": {"clientCAFile": str(plan.authority.cert)},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{plan.paths.containerd_socket}",
        "clusterDomain": "cluster.local",
        "clusterDNS": [network.dns_address],
        "podLogsDir": str(plan.paths.folder / "pod-logs"),
        "volumePluginDir": str(plan.paths.kubelet_root / "volume-plugins"),
        "nodeStatusUpdateFrequency": "5s",
        **_poor_machine(plan),
    }
    if plan.feature_gates:
        content["featureGates"] = dict(plan.feature_gates)
    plan.paths.config("kubelet.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def _poor_machine(plan: Blueprint) -> dict[str, object]:
    """Settings without which the kubelet does not start, or evicts, on a small or restricted machine."""
    return {
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{plan.cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,
        "makeIPTablesUtilChains": False,
        "oomScoreAdj": 0,
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    }


def kubelet(plan: Blueprint) -> list[str]:
    """The kubelet's command line."""
    return [
        plan.program("kubelet"),
        f"--config={plan.paths.config('kubelet.yaml')}",
        f"--kubeconfig={plan.paths.kubeconfig('kubelet')}",
        f"--root-dir={plan.paths.kubelet_root}",
        f"--cert-dir={plan.paths.folder / 'pki'}",
        f"--hostname-override={plan.node_name}",
        f"--node-ip={plan.network.node_address}",
    ]
