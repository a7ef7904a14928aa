"""NVML speaks of processes by the host's ids, a container by its own: the shim still knows whose is whose."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shim.tenants import Tenant
from tests.shim.waiting import wait_until
from tests.simgpu import installation

GIB = 1 << 30
MIB = 1 << 20


@pytest.fixture
def contained(tmp_path: Path) -> Iterator[Tenant]:
    """A tenant on a machine whose NVML reports ids that mean nothing where the tenant runs."""
    cards = tmp_path / "cards.json"
    cards.write_text(json.dumps({"count": 2, "foreign_pids": True, "defaults": {"context_bytes": 200 * MIB}}))
    made = installation.make(tmp_path / "machine", cards)
    yield Tenant(made, tmp_path / "shares")
    made.end_clients()


LIST = """
nvml.nvmlInit()
card = nvml.nvmlDeviceGetHandleByIndex(0)
print([[process.pid, process.usedGpuMemory] for process in nvml.nvmlDeviceGetComputeRunningProcesses(card)])
"""


def listed(tenant: Tenant, *, native: bool = False) -> dict[int, int]:
    """NVML's process list as a program sees it: id -> bytes."""
    output = tenant.machine.run(LIST, **({} if native else tenant.preloaded()))
    return dict(json.loads(output))


def test_context_and_code_are_charged_what_the_card_gave(contained: Tenant) -> None:
    share = contained.share("one", memory=4 * GIB)
    stranger = contained.machine.start("open_device(); check(driver.cuMemAlloc(1 << 30)); ready(); release()")
    installation.await_ready(stranger)
    client = contained.machine.start(
        'open_device(); Kernel("spin_ns", ctypes.c_uint64); ready(); release()', **contained.preloaded()
    )
    installation.await_ready(client)
    (process,) = share.processes()
    assert (process["context_bytes"], process["module_bytes"]) == (200 * MIB, 2 * MIB)
    assert process["nvml_pid"] not in (0, process["pid"])
    assert process["nvml_pid"] in listed(contained, native=True)
    for each in (stranger, client):
        installation.finish(each)


def test_the_list_shows_the_shares_processes_by_the_ids_that_the_program_knows(contained: Tenant) -> None:
    share = contained.share("one", memory=4 * GIB)
    stranger = contained.machine.start("open_device(); ready(); release()")
    friends = [
        contained.machine.start(
            f"open_device(); check(driver.cuMemAlloc({gib} << 30)); ready(); release()", **contained.preloaded()
        )
        for gib in (1, 2)
    ]
    for client in (stranger, *friends):
        installation.await_ready(client)
    charged = {process["pid"]: process["charged_bytes"] for process in share.processes()}
    assert (
        listed(contained)
        == charged
        == {friend.pid: gib * GIB + 200 * MIB for friend, gib in zip(friends, (1, 2), strict=True)}
    )
    assert len(listed(contained, native=True)) == 3
    for client in (stranger, *friends):
        installation.finish(client)


def test_processes_that_start_at_once_do_not_take_each_other_for_themselves(contained: Tenant) -> None:
    shares = [contained.share("one", memory=8 * GIB)]
    code = "open_device(); check(driver.cuMemAlloc({} << 20)); ready(); release()"
    clients = [contained.machine.start(code.format(7 + n), **contained.preloaded()) for n in range(6)]
    strangers = [contained.machine.start(code.format(40 + n)) for n in range(3)]
    for client in (*clients, *strangers):
        installation.await_ready(client)
    seen = listed(contained, native=True)
    processes = [process for share in shares for process in share.processes()]
    assert len(processes) == 6
    for process in processes:
        assert process["context_bytes"] == 200 * MIB
        assert seen[process["nvml_pid"]] == process["charged_bytes"]
    for client in (*clients, *strangers):
        installation.finish(client)


def test_a_process_of_another_namespace_keeps_the_number_that_nvml_gives_it(contained: Tenant) -> None:
    share = contained.share("one", memory=4 * GIB)
    import_and_hold = "from cuda_client import *\nopen_device(); ready(); release()"
    isolated = contained.machine.spawn(
        ["unshare", "--fork", "--pid", "--kill-child", sys.executable, "-c", import_and_hold], **contained.preloaded()
    )
    installation.await_ready(isolated)
    (process,) = share.processes()
    assert process["pid"] == 1
    assert listed(contained) == {process["nvml_pid"]: 200 * MIB}
    installation.finish(isolated)


def test_on_the_host_itself_both_numbers_are_the_same(tenant: Tenant) -> None:
    share = tenant.share("one", memory=4 * GIB)
    client = tenant.machine.start("open_device(); ready(); release()", **tenant.preloaded())
    installation.await_ready(client)
    (process,) = share.processes()
    assert process["nvml_pid"] == process["pid"] == client.pid
    installation.finish(client)


ACCOUNTS = """
nvml.nvmlInit()
card = nvml.nvmlDeviceGetHandleByIndex(0)
numbers = json.loads(sys.stdin.readline())
pids = nvml.nvmlDeviceGetAccountingPids(card)
told = []
for number in numbers:
    try: told.append(nvml.nvmlDeviceGetAccountingStats(card, number).maxMemoryUsage)
    except nvml.NVMLError_NotFound: told.append(None)
samples = [sample.pid for sample in nvml.nvmlDeviceGetProcessUtilization(card, 0)]
print(json.dumps([pids, told, samples]))
"""


def test_accounts_and_samples_of_other_tenants_stay_unseen(contained: Tenant) -> None:
    contained.share("one", memory=4 * GIB)
    stranger = contained.machine.start("open_device(); ready(); release()")
    installation.await_ready(stranger)
    (strange,) = listed(contained, native=True)
    friend = contained.machine.start("open_device(); ready(); release()", **contained.preloaded())
    installation.await_ready(friend)
    asker = contained.machine.start(f"import json, sys\n{ACCOUNTS}", **contained.preloaded())
    assert asker.stdin is not None
    asker.stdin.write(json.dumps([friend.pid, strange]) + "\n")
    asker.stdin.flush()
    assert json.loads(installation.await_ready(asker)) == [[friend.pid], [200 * MIB, None], [friend.pid]]
    for client in (asker, friend, stranger):
        installation.finish(client)


def test_a_killed_process_gives_its_charge_back_whatever_its_number_is(contained: Tenant) -> None:
    share = contained.share("one", memory=4 * GIB)
    hold = "open_device(); check(driver.cuMemAlloc(1 << 30)); ready(); release()"
    survivor, victim = (contained.machine.start(hold, **contained.preloaded()) for _ in range(2))
    for client in (survivor, victim):
        installation.await_ready(client)
    assert share.usage("charged_bytes") == 2 * (GIB + 200 * MIB)
    installation.kill(victim)
    wait_until(lambda: share.usage("charged_bytes") == GIB + 200 * MIB)
    assert listed(contained) == {survivor.pid: GIB + 200 * MIB}
    installation.finish(survivor)


def test_a_program_in_a_namespace_of_its_own_finds_itself_in_the_list_by_its_own_number(contained: Tenant) -> None:
    contained.share("one", memory=4 * GIB)
    stranger = contained.machine.start("open_device(); ready(); release()")
    installation.await_ready(stranger)
    code = f"import os\nfrom cuda_client import *\nopen_device()\n{LIST}\nprint(os.getpid())"
    seen = contained.machine.spawn(
        ["unshare", "--fork", "--pid", "--kill-child", sys.executable, "-c", code], **contained.preloaded()
    )
    processes, pid = installation.finish(seen).splitlines()
    assert dict(json.loads(processes)) == {int(pid): 200 * MIB} == {1: 200 * MIB}
    installation.finish(stranger)
