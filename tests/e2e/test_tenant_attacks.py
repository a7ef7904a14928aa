"""What a tenant tries against its own limits, its neighbours and the node is refused, or said to be beyond us.

Each attack runs as root with a container's usual capabilities, and as another user. Whatever it does to the attacker's
own share, the neighbour on the same card must not notice it.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from drivers import shim_abi
from drivers.shim_contract import USAGE_SIZE, read_limits, read_usage, write_limits
from tests.cluster.errors import CommandFailed
from tests.e2e import attacks
from tests.e2e.tenant import Tenant, pod, template
from tests.stack.plugin import DRIVER, NAMESPACE
from tests.stack.stack import Stack
from tests.waiting import eventually

MIB, GIB = 1 << 20, 1 << 30
SHARE = 2 * GIB
HELD = GIB
OUT_OF_MEMORY = 2
REFUSED = {"EROFS", "EPERM", "EACCES", "EBUSY", "EXDEV", "ENOENT"}
PROGRAM = "/opt/attacks/attacks.py"
# root with what a container has by default, and a user without any right.
ATTACKERS = ("root", "user")
SECURITY = Path(__file__).parents[2] / "docs/security.md"


@dataclass(frozen=True)
class Field:
    """A neighbour, and the attackers' pods, all on one card."""

    tenant: Tenant
    keys: dict[str, str]
    """The share of each pod."""

    @property
    def stack(self) -> Stack:
        return self.tenant.stack

    def share(self, name: str) -> Path:
        """A pod's share on the host."""
        return self.stack.places.state / "shares" / self.keys[name]

    def attack(self, name: str, attack: str, *arguments: object) -> dict[str, Any]:
        """What came of an attack in a pod; afterwards the neighbour is as it was."""
        outcome = self.tenant.run(name, "python3", PROGRAM, attack, *map(str, arguments))
        self.check_neighbour()
        return outcome

    def is_limited(self, name: str) -> bool:
        """Whether a pod is refused one byte more than its share, and given what it may have."""
        given = self.tenant.run(name, "python3", PROGRAM, "ask", str(SHARE + 1), str(MIB))
        return given == {"first": OUT_OF_MEMORY, "second": 0}

    def check_neighbour(self) -> None:
        """Its limits are what they were, and it still holds its memory, by its accounting and by the card's own."""
        share = self.share("neighbour")
        assert read_limits(share / "limits").memory_current_bytes == SHARE
        accounted = read_usage(share / "usage").live_bytes
        assert HELD <= accounted <= SHARE
        on_card = [process.bytes for card in self.stack.cards.state() for process in card.processes]
        assert accounted in on_card


@pytest.fixture(scope="module")
def field(stack: Stack) -> Iterator[Field]:
    tenant = Tenant(stack, f"attacks-{uuid.uuid4().hex[:8]}")
    tenant.create()
    content = {"attacks.py": Path(attacks.__file__).read_text(), "nothing": ""}
    tenant.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "attacks"}, "data": content})
    tenant.apply(template("share", {"share": {"memory": "2Gi", "cores": "10"}}))
    holding = f"exec vgpu-probe hold --memory {HELD >> 30}Gi --seconds 3600"
    tenant.apply(attacker("neighbour", holding))
    for name, wire in {"root": attacker("root"), "user": as_user(attacker("user")), "covered": covered()}.items():
        assert wire["metadata"]["name"] == name
        tenant.apply(wire)
    names = ("neighbour", *ATTACKERS, "covered")
    for name in names:
        tenant.wait_running(name)
    assert tenant.told("neighbour")["result"] == "CUDA_SUCCESS"
    recorded = {claim["uid"]: claim for claim in stack.plugin.prepared()}
    shares = {name: recorded[tenant.claims_of(name)["gpu"]["metadata"]["uid"]]["shares"][0] for name in names}
    assert len({share["device_uuid"] for share in shares.values()}) == 1
    yield Field(tenant, {name: share["key"] for name, share in shares.items()})
    tenant.remove()


def attacker(name: str, command: str = "exec sleep 3600") -> dict[str, Any]:
    """A pod with a share, and with the program of the attacks."""
    wire = pod(name, command, claim_template="share")
    wire["spec"]["volumes"] = [{"name": "program", "configMap": {"name": "attacks"}}]
    wire["spec"]["containers"][0]["volumeMounts"] = [{"name": "program", "mountPath": str(Path(PROGRAM).parent)}]
    return wire


def as_user(wire: dict[str, Any]) -> dict[str, Any]:
    wire["spec"]["securityContext"] = {"runAsUser": 1000, "runAsGroup": 1000}
    return wire


def covered() -> dict[str, Any]:
    """A pod whose own volumes lie where the driver's mounts go."""
    wire = attacker("covered")
    wire["spec"]["volumes"].append({"name": "empty", "emptyDir": {}})
    wire["spec"]["containers"][0]["volumeMounts"] += [
        {"name": "empty", "mountPath": "/run/vgpu", "subPath": "shares"},
        {"name": "empty", "mountPath": "/usr/local/vgpu", "subPath": "library"},
        {"name": "program", "mountPath": "/etc/ld.so.preload", "subPath": "nothing"},
    ]
    return wire


def listed(words: str) -> bool:
    """Whether the documentation says that this cannot be stopped."""
    text = " ".join(SECURITY.read_text().split())
    _, _, beyond = text.partition("## What soft isolation cannot stop")
    return words in beyond


@pytest.mark.parametrize("name", ATTACKERS)
@pytest.mark.parametrize("what", ["limits", "library", "preload"])
def test_what_holds_a_container_to_its_limits_cannot_be_changed_or_taken_away(
    field: Field, name: str, what: str
) -> None:
    outcome = field.attack(name, what)
    assert {way: answer for way, answer in outcome.items() if answer not in REFUSED} == {}
    assert field.is_limited(name)


@pytest.mark.parametrize("name", ATTACKERS)
def test_another_share_s_files_and_the_node_s_state_are_out_of_reach(field: Field, name: str) -> None:
    state, plugin = field.stack.places.state, field.stack.plugin
    places = (state, field.share("neighbour"), plugin.checkpoint, plugin.dra_socket, plugin.registration_socket)
    disk = state.stat().st_dev
    outcome = field.attack(name, "reach", disk, *places, field.stack.cluster.paths.cdi_dynamic)
    assert outcome.pop("shares in view") == [field.keys[name]]
    made = outcome.pop("make the disk's node")
    assert made == ("done" if name == "root" else "EPERM")
    assert {way: answer for way, answer in outcome.items() if answer not in REFUSED} == {}


@pytest.mark.parametrize("name", ATTACKERS)
def test_words_and_folders_of_its_own_give_a_tenant_nothing(field: Field, name: str) -> None:
    outcome = field.attack(name, "elsewhere", SHARE + 1, read_limits(field.share(name) / "limits").device_uuid)
    assert {way: code for way, code in outcome.items() if code != OUT_OF_MEMORY} == {}


@pytest.mark.parametrize("name", ATTACKERS)
def test_only_root_moves_the_folders_above_the_mounts_and_hurts_no_other_share(field: Field, name: str) -> None:
    outcome = field.attack(name, "move_away", SHARE + 1)
    escapes = {"move": "done", "taken": 0}
    assert outcome == (escapes if name == "root" else {"move": "EACCES", "taken": OUT_OF_MEMORY})
    assert listed("move the folders above the mounts")
    assert field.is_limited("neighbour")


@pytest.mark.parametrize("name", ATTACKERS)
def test_a_library_that_is_closed_stays(field: Field, name: str) -> None:
    assert field.attack(name, "close_library", SHARE + 1)["taken"] == OUT_OF_MEMORY


@pytest.mark.parametrize("name", ATTACKERS)
def test_a_share_that_the_node_did_not_mount_adds_nothing(field: Field, name: str, tmp_path: Path) -> None:
    own = read_limits(field.share(name) / "limits")
    forged = replace(own, share_key="forged", memory_guaranteed_bytes=8 * GIB, memory_current_bytes=8 * GIB)
    write_limits(tmp_path / "limits", forged)
    page = base64.b64encode((tmp_path / "limits").read_bytes()).decode()
    outcome = field.attack(name, "forge", SHARE + 1, page)
    assert outcome == {"make": "done" if name == "root" else "EACCES", "taken": OUT_OF_MEMORY}


def test_volumes_of_the_pod_s_own_do_not_cover_the_driver_s_mounts(field: Field) -> None:
    assert field.is_limited("covered")


@pytest.mark.parametrize("name", ATTACKERS)
def test_a_usage_file_that_grows_is_cut(field: Field, name: str) -> None:
    assert field.attack(name, "grow", 64 * MIB)["size"] == 64 * MIB
    usage = field.share(name) / "usage"
    eventually(lambda: usage.stat().st_size == USAGE_SIZE, what="the file has its size again")
    assert usage.stat().st_blocks * 512 < 2 * USAGE_SIZE
    assert field.is_limited(name)


@pytest.mark.parametrize("name", ATTACKERS)
def test_who_spoils_his_accounting_is_given_nothing(field: Field, name: str) -> None:
    outcome = field.attack(name, "spoil_accounting", SHARE + 1)
    assert 0 not in (outcome["one byte"], outcome["taken"])
    assert field.is_limited(name)


@pytest.mark.parametrize("name", ATTACKERS)
def test_who_falsifies_his_accounting_hurts_no_other_share(field: Field, name: str) -> None:
    offset = shim_abi.USAGE["charged_bytes"].offset
    assert field.attack(name, "forget_accounting", SHARE, offset)["first"] == 0
    assert listed("falsify its own accounting")
    assert field.is_limited("neighbour")


@pytest.mark.parametrize("name", ATTACKERS)
def test_a_program_that_loads_the_vendor_s_library_past_the_shim_hurts_no_other_share(field: Field, name: str) -> None:
    assert field.attack(name, "own_loader", SHARE + 1)["taken"] == 0
    assert listed("a loader, a static program or system calls of its own")
    assert field.is_limited("neighbour")


def test_a_tenant_s_token_may_not_write_slices_or_what_claims_have_got(field: Field) -> None:
    tenant, cluster = field.tenant, field.stack.cluster
    token = cluster.service_account_kubeconfig(tenant.namespace, "default", "root")
    claim = tenant.claims_of("neighbour")["gpu"]["metadata"]["name"]
    for arguments in (
        ("create", "-f", "-"),
        ("delete", "resourceslice", field.stack.slices()[0]["metadata"]["name"]),
        ("patch", "resourceclaim", claim, "-n", tenant.namespace, "--subresource=status", "-p", STATUS),
    ):
        with pytest.raises(CommandFailed, match="orbidden"):
            cluster.kubectl(*arguments, input=json.dumps(slice_of("another-node")), kubeconfig=token)


STATUS = json.dumps({"status": {"devices": []}})


def slice_of(node: str) -> dict[str, Any]:
    pool = {"name": "stolen", "generation": 99, "resourceSliceCount": 1}
    spec = {"driver": DRIVER, "nodeName": node, "pool": pool, "devices": []}
    return {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "stolen"}, "spec": spec}


@pytest.fixture(scope="module")
def other_node(stack: Stack) -> Iterator[Path]:
    """The credentials of a plugin on a second node, which only the API knows: a stand-in pod is bound to it."""
    name = "stolen-node"
    stack.cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    stand_in = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "serviceAccountName": "hami-dra-kubeletplugin",
            "nodeName": name,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "stand-in", "image": "hami-dra.test/pause:1"}],
        },
    }
    stack.cluster.apply(stand_in)
    yield stack.cluster.service_account_kubeconfig(NAMESPACE, "hami-dra-kubeletplugin", name)
    stack.cluster.kubectl("delete", "pod", name, "--namespace", NAMESPACE, "--force", "--grace-period=0")
    stack.cluster.kubectl("delete", "node", name)


def test_a_plugin_s_token_from_another_node_does_not_speak_for_this_one(field: Field, other_node: Path) -> None:
    cluster, own = field.stack.cluster, field.stack.slices()[0]
    own["spec"]["pool"]["generation"] += 1
    for wire, verb in ((slice_of(cluster.node_name), "create"), (own, "replace")):
        with pytest.raises(CommandFailed, match="of that node only"):
            cluster.kubectl(verb, "-f", "-", input=json.dumps(wire), kubeconfig=other_node)
    with pytest.raises(CommandFailed, match="of that node only"):
        cluster.kubectl("delete", "resourceslice", own["metadata"]["name"], kubeconfig=other_node)
    cluster.kubectl("create", "-f", "-", input=json.dumps(slice_of("stolen-node")), kubeconfig=other_node)
    cluster.kubectl("delete", "resourceslice", "stolen", kubeconfig=other_node)


def test_a_plugin_s_token_from_another_node_does_not_change_what_a_claim_here_has_got(
    field: Field, other_node: Path
) -> None:
    claim = field.tenant.claims_of("neighbour")["gpu"]
    place = ("resourceclaim", claim["metadata"]["name"], "--namespace", field.tenant.namespace)
    entry = {**claim["status"]["allocation"]["devices"]["results"][0], "data": {"memory": "0"}}
    told = {key: entry[key] for key in ("driver", "pool", "device", "shareID", "data") if key in entry}
    changes: tuple[dict[str, Any], ...] = ({"devices": [told]}, {"allocation": None}, {"reservedFor": []})
    for status in changes:
        change = ("patch", *place, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
        with pytest.raises(CommandFailed, match="orbidden"):
            field.stack.cluster.kubectl(*change, kubeconfig=other_node)


def test_a_plugin_s_token_without_a_node_may_write_no_slice(field: Field) -> None:
    cluster = field.stack.cluster
    unbound = cluster.kubectl("create", "token", "hami-dra-kubeletplugin", "--namespace", NAMESPACE).strip()
    command = ("create", "-f", "-", f"--token={unbound}")
    wire = json.dumps(slice_of(cluster.node_name))
    with pytest.raises(CommandFailed, match="not bound to a pod"):
        cluster.kubectl(*command, input=wire, kubeconfig=field.stack.places.kubeconfig)
