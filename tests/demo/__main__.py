"""Two pods share one card on a real Kubernetes node; every line of output is what a real process printed."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.cluster.errors import ClusterError
from tests.demo.stage import Stage
from tests.stack.stack import Stack
from tests.waiting import eventually

FOLDER = Path(__file__).parent
NAMESPACE = "demo"
_CAPACITY = ".spec.devices[*].capacity"
COLUMNS = f"DEVICE:.spec.devices[*].name,MEMORY:{_CAPACITY}.memory.value,CORES:{_CAPACITY}.cores.value"
GIB = 1 << 30
SPIN_SECONDS = 10


def main() -> int:
    """Exit status 0 when all went as told."""
    stage = Stage()
    try:
        stack = bring_up(stage)
        try:
            show_cards(stage, stack)
            share_a_card(stage, stack)
            look_inside(stage, stack)
            overstep(stage, stack)
            compete(stage, stack)
            wait_for_room(stage, stack)
        finally:
            clean_up(stage, stack)
    except (ClusterError, AssertionError) as failed:
        print(f"\nthe demo failed: {failed}", file=sys.stderr)
        return 1
    look_around(stage)
    return 0


def bring_up(stage: Stage) -> Stack:
    """Cluster, cards, driver."""
    stage.step(
        "A Kubernetes node",
        """etcd, API server, scheduler, controller manager, kubelet and containerd, each the real program. The GPUs are
        simulated at the interface of NVIDIA's own libraries; everything above is what runs on a real node.""",
    )
    stack = Stack.up()
    stack.cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s")
    stack.cluster.kubectl("create", "namespace", NAMESPACE)
    eventually(lambda: _exists(stack, "serviceaccount", "default"), what="the namespace is ready")
    return stack


def show_cards(stage: Stage, stack: Stack) -> None:
    """What the driver publishes."""
    stage.step(
        "Cards, published as divisible",
        """The driver's node plugin has found the cards through NVML and published them as a ResourceSlice: so much
        memory, so many percent of compute, for up to ten tenants each.""",
    )
    stage.kubectl(stack.cluster, "get", "resourceslices")
    stage.kubectl(stack.cluster, "get", "resourceslices", "-o", f"custom-columns={COLUMNS}")


def share_a_card(stage: Stage, stack: Stack) -> None:
    """Two pods on one card."""
    stage.step(
        "Two pods on one card",
        """Alice asks for 4 GiB and 30 % of a card, Bob for 8 GiB and 60 %: plain ResourceClaimTemplates. The scheduler
        places both on the same card and writes down what it gave.""",
    )
    stage.kubectl(
        stack.cluster, "apply", "-n", NAMESPACE, "-f", str((FOLDER / "manifests.yaml").relative_to(Path.cwd()))
    )
    for pod in ("alice", "bob"):
        wait_running(stack, pod)
    stage.kubectl(stack.cluster, "get", "pods", "-n", NAMESPACE)
    results = ".status.allocation.devices.results[0]"
    given = f"CLAIM:.metadata.name,DEVICE:{results}.device,MEMORY:{results}.consumedCapacity.memory"
    columns = f"{given},CORES:{results}.consumedCapacity.cores"
    stage.kubectl(stack.cluster, "get", "resourceclaims", "-n", NAMESPACE, "-o", f"custom-columns={columns}")


def look_inside(stage: Stage, stack: Stack) -> None:
    """What CUDA and NVML tell in the containers."""
    stage.step(
        "What each of them sees",
        """The image knows nothing of shares. vgpu-probe asks CUDA (cuDeviceTotalMem, cuMemGetInfo) through NVIDIA's
        cuda-bindings, and NVML through nvidia-ml-py.""",
    )
    for pod, size in (("alice", 4), ("bob", 8)):
        seen = probe(stage, stack, pod, "show")
        assert seen["cuda"][0]["total"] == seen["nvml"][0]["total"] == size * GIB, seen
        stage.say(f"for {pod} the card has {size} GiB")


def overstep(stage: Stage, stack: Stack) -> None:
    """Memory to the last byte."""
    stage.step(
        "Not one byte more",
        "Alice takes memory until it is refused, in ever smaller pieces, down to a single byte.",
    )
    filled = probe(stage, stack, "alice", "fill")
    assert filled["one_byte_more"] == "CUDA_ERROR_OUT_OF_MEMORY", filled
    context = 4 * GIB - filled["allocated"]
    stage.say(
        f"{filled['allocated']:,} bytes, and {context >> 20} MiB for her CUDA context: 4 GiB. The next byte is refused"
        f" with {filled['one_byte_more']}, as a full card would."
    )


def compete(stage: Stage, stack: Stack) -> None:
    """Compute while both want all of it."""
    stage.step(
        "Compute, while both want all of it",
        f"Both launch kernels as fast as they can, for {SPIN_SECONDS} seconds at the same time.",
    )
    with ThreadPoolExecutor() as pool:
        spinning = {pod: pool.submit(spin, stack, pod) for pod in ("alice", "bob")}
    for pod, limit in (("alice", 30), ("bob", 60)):
        stage.command(f"kubectl exec -n {NAMESPACE} {pod} -- vgpu-probe spin --seconds {SPIN_SECONDS}")
        told = spinning[pod].result()
        stage.show(json.dumps(told))
        stage.say(f"{pod} had {told['percent']} % of the card's time; the claim says {limit} %")


def wait_for_room(stage: Stage, stack: Stack) -> None:
    """A third pod waits, then runs."""
    stage.step("A third pod waits for room", "Carol wants 8 GiB of the same card: 4 + 8 + 8 are more than 16.")
    stage.kubectl(stack.cluster, "apply", "-n", NAMESPACE, "-f", str((FOLDER / "carol.yaml").relative_to(Path.cwd())))
    eventually(lambda: "FailedScheduling" in events(stack, "carol"), what="the scheduler says why carol waits")
    stage.kubectl(stack.cluster, "get", "pod", "carol", "-n", NAMESPACE)
    stage.command(f"kubectl get events -n {NAMESPACE} --field-selector=involvedObject.name=carol")
    stage.show(events(stack, "carol"))
    stage.say("Now Bob leaves.")
    stage.kubectl(stack.cluster, "delete", "pod", "bob", "-n", NAMESPACE)
    wait_running(stack, "carol")
    stage.kubectl(stack.cluster, "get", "pods", "-n", NAMESPACE)


def clean_up(stage: Stage, stack: Stack) -> None:
    """Nothing stays behind."""
    stage.step("Clean-up", "The pods go, and with them their limits, their CDI specs and their records on the node.")
    uids = {claim["metadata"]["uid"] for claim in stack.cluster.get("resourceclaims", "-n", NAMESPACE)["items"]}
    stage.kubectl(stack.cluster, "delete", "pods", "--all", "-n", NAMESPACE, "--timeout=60s")
    eventually(lambda: not shares(stack, uids), what="the node has let go of the pods' shares")
    stack.cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    stage.say(f"in {stack.plugin.checkpoint.parent} and {stack.places.state} nothing of them is left")


def shares(stack: Stack, uids: set[str]) -> list[str]:
    """The share folders of claims that the node still has prepared, or whose CDI spec is still there."""
    prepared = [claim for claim in stack.plugin.prepared() if claim["uid"] in uids]
    specs = [path.name for path in stack.cluster.paths.cdi_dynamic.iterdir() if any(uid in path.name for uid in uids)]
    return [share["key"] for claim in prepared for share in claim["shares"]] + specs


def look_around(stage: Stage) -> None:
    """What to do next."""
    stage.step("Look around")
    stage.show(
        """The cluster is still up:

eval "$(.venv/bin/python -m tests.cluster env)"      sets KUBECONFIG and the path to kubectl
kubectl get resourceslices -o yaml                   the cards with all their attributes
kubectl apply -f deploy/examples/one-slice           an example; deploy/examples/README.md lists them all
kubectl logs one-slice                               what it sees
make cluster-status                                  the components, and where their logs are
make cluster-down                                    takes everything away again"""
    )


def wait_running(stack: Stack, pod: str) -> None:
    """Wait until a pod runs."""
    phase = ("get", "pod", pod, "-n", NAMESPACE, "-o", "jsonpath={.status.phase}")
    eventually(lambda: stack.cluster.kubectl(*phase) == "Running", what=f"pod {pod} runs: {events(stack, pod)}")


def events(stack: Stack, pod: str) -> str:
    """The events of a pod, as kubectl shows them."""
    return stack.cluster.kubectl("get", "events", "-n", NAMESPACE, f"--field-selector=involvedObject.name={pod}")


def probe(stage: Stage, stack: Stack, pod: str, *arguments: str) -> dict[str, Any]:
    """Run the probe in a pod, in front of the audience."""
    output = stage.kubectl(stack.cluster, "exec", "-n", NAMESPACE, pod, "--", "vgpu-probe", *arguments)
    told: dict[str, Any] = json.loads(output)
    return told


def spin(stack: Stack, pod: str) -> dict[str, Any]:
    """Keep the card busy from a pod."""
    command = ("exec", "-n", NAMESPACE, pod, "--", "vgpu-probe", "spin", "--seconds", str(SPIN_SECONDS))
    told: dict[str, Any] = json.loads(stack.cluster.kubectl(*command))
    return told


def _exists(stack: Stack, kind: str, name: str) -> bool:
    return bool(stack.cluster.kubectl("get", kind, name, "-n", NAMESPACE, "--ignore-not-found", "-o", "name"))


if __name__ == "__main__":
    sys.exit(main())
