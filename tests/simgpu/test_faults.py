"""Failures that a test plans happen where and when it planned them, and nowhere else."""

import simgpuctl

from tests.simgpu import installation
from tests.simgpu.installation import Installation


def test_the_third_allocation_fails_as_planned(machine: Installation) -> None:
    simgpuctl.fail(machine.state, "cuMemAlloc", 2, after=3)
    output = machine.run("open_device()\nprint(*[int(driver.cuMemAlloc(4096)[0]) for _ in range(5)])")
    assert output == "0 0 2 0 0"
    assert machine.show().faults[0].hits == 1
    assert not machine.show().faults[0].active


def test_a_planned_nvml_failure_reaches_the_client(machine: Installation) -> None:
    simgpuctl.fail(machine.state, "nvmlDeviceGetMemoryInfo", 999)
    output = machine.run(
        "nvml.nvmlInit()\ncard = nvml.nvmlDeviceGetHandleByIndex(0)\n"
        "try: nvml.nvmlDeviceGetMemoryInfo(card)\n"
        "except nvml.NVMLError as error: print(error.value)\n"
        "print(nvml.nvmlDeviceGetMemoryInfo(card).used)"
    )
    assert output.split() == ["999", "0"]


def test_a_lost_card_fails_and_comes_back(machine: Installation) -> None:
    client = machine.start(
        "open_device()\nnvml.nvmlInit()\ncards = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(2)]\n"
        "def ask(card):\n"
        "    try: return nvml.nvmlDeviceGetMemoryInfo(card).total\n"
        "    except nvml.NVMLError as error: return error.value\n"
        "for _ in range(2):\n"
        "    ready()\n    release()\n"
        "    ready(ask(cards[0]), ask(cards[1]), int(driver.cuMemAlloc(4096)[0]), int(driver.cuCtxSynchronize()[0]))\n"
    )
    seen = []
    for change in (simgpuctl.lose, simgpuctl.restore):
        installation.await_ready(client)
        change(machine.state, 0)
        seen.append(installation.resume(client))
    installation.finish(client)
    assert seen == [f"15 {16 << 30} 46 46", f"{16 << 30} {16 << 30} 0 0"]


def test_an_xid_reaches_those_who_registered_for_it(machine: Installation) -> None:
    client = machine.start(
        "nvml.nvmlInit()\nevents = nvml.nvmlEventSetCreate()\n"
        "card = nvml.nvmlDeviceGetHandleByIndex(1)\n"
        "nvml.nvmlDeviceRegisterEvents(card, nvml.nvmlEventTypeXidCriticalError, events)\nready()\n"
        "event = nvml.nvmlEventSetWait_v2(events, 30000)\n"
        "print(nvml.nvmlDeviceGetUUID(event.device), event.eventData)"
    )
    installation.await_ready(client)
    simgpuctl.xid(machine.state, 0, 31)
    simgpuctl.xid(machine.state, 1, 79)
    assert installation.finish(client) == f"{machine.show().cards[1].uuid} 79"


def test_ecc_errors_are_counted(machine: Installation) -> None:
    simgpuctl.add_ecc_errors(machine.state, 0, uncorrected=3)
    output = machine.run(
        "nvml.nvmlInit()\ncard = nvml.nvmlDeviceGetHandleByIndex(0)\n"
        "print(nvml.nvmlDeviceGetTotalEccErrors(card, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC))"
    )
    assert output == "3"


def test_heal_forgets_everything_that_was_planned(machine: Installation) -> None:
    simgpuctl.fail(machine.state, "cuInit", 999)
    simgpuctl.lose(machine.state, 0)
    simgpuctl.heal(machine.state)
    assert machine.run("open_device()\nprint('well')") == "well"
