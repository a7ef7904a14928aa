"""Every way to put work on a card is held to the share's compute limit and charged to it, the rare ones too."""

import time

import pytest

from tests.shim.sharefiles import ShareFiles
from tests.shim.tenants import Container, Tenant
from tests.simgpu import installation

GIB = 1 << 30
KERNEL_NS = 1_000_000

SETTING = f"""
open_device()
cuda = ctypes.CDLL("libcuda.so.1")
def must(status): assert status == 0, status
def spin():
    kernel = Kernel("spin_ns", ctypes.c_uint64)
    return ctypes.c_void_p(int(kernel.function))
function, duration = spin(), ctypes.c_uint64({KERNEL_NS})
parameters = (ctypes.c_void_p * 1)(ctypes.addressof(duration))
"""
# Before CUDA 4 a function was told its block and its parameters, and the launch only the grid.
OLD = """
must(cuda.cuFuncSetBlockShape(function, 32, 1, 1)); must(cuda.cuParamSetSize(function, 8))
must(cuda.cuParamSetv(function, 0, ctypes.byref(duration), 8))
"""
WAYS = {
    "cuLaunch": OLD + "launch = lambda: cuda.cuLaunch(function)",
    "cuLaunchGrid": OLD + "launch = lambda: cuda.cuLaunchGrid(function, 2, 3)",
    "cuLaunchGridAsync": OLD + "launch = lambda: cuda.cuLaunchGridAsync(function, 2, 3, None)",
    "cuLaunchKernel_ptsz": "launch = lambda: cuda.cuLaunchKernel_ptsz(function, 1, 1, 1, 32, 1, 1, 0, None,"
    " parameters, None)",
    "cuLaunchCooperativeKernel": "launch = lambda: cuda.cuLaunchCooperativeKernel(function, 1, 1, 1, 32, 1, 1, 0, None,"
    " parameters)",
    "cuLaunchKernelEx": """
config = driver.CUlaunchConfig()
config.gridDimX = config.gridDimY = config.gridDimZ = config.blockDimY = config.blockDimZ = 1; config.blockDimX = 32
launch = lambda: cuda.cuLaunchKernelEx(ctypes.c_void_p(config.getPtr()), function, parameters, None)
""",
}
# Counts what the card has done, waiting for it every so often: a witness that any card has.
COUNTED = f"""
def percent(seconds):
    done, since = 0, time.monotonic()
    while (passed := time.monotonic() - since) < seconds:
        for _ in range(4): must(launch())
        check(driver.cuCtxSynchronize()); done += 4
    return done * {KERNEL_NS} / passed / 1e7, done
percent(0.3); ready(*percent(0.6)); release()
"""
ENDLESS = """
must(launch()); ready("up")
while True: must(launch())
"""
TWO_CARDS = """
class Part(ctypes.Structure):
    _fields_ = [("function", ctypes.c_void_p), *((name, ctypes.c_uint) for name in "gx gy gz bx by bz shared".split()),
                ("stream", ctypes.c_void_p), ("parameters", ctypes.c_void_p)]
parts = (Part * 2)()
for card in range(2):
    open_device(card)
    stream = int(check(driver.cuStreamCreate(1)))
    parts[card] = Part(spin(), 1, 1, 1, 32, 1, 1, 0, stream, ctypes.addressof(parameters))
launch = lambda: cuda.cuLaunchCooperativeKernelMultiDevice(parts, 2, 0)
"""


def busy_ns(tenant: Tenant, pid: int) -> list[int]:
    """Nanoseconds of each card that the process has taken, as the cards count them."""
    cards = tenant.machine.show().cards
    return [sum(process.busy_ns for process in card.processes if process.pid == pid) for card in cards]


def charged_ns(shares: list[ShareFiles]) -> list[int]:
    return [sum(process["busy_ns"] for process in share.processes()) for share in shares]


def percentages(tenant: Tenant, pid: int, seconds: float) -> list[float]:
    """Percent of each card over so many seconds from now."""
    before, since = busy_ns(tenant, pid), time.monotonic_ns()
    time.sleep(seconds)
    after, until = busy_ns(tenant, pid), time.monotonic_ns()
    return [100 * (b - a) / (until - since) for a, b in zip(before, after, strict=True)]


def check_throttled_and_charged(container: Container, way: str) -> None:
    share = container.share("one", memory=4 * GIB, cores=40)
    client = container.machine.start(SETTING + WAYS[way] + COUNTED, **container.preloaded())
    percent, launches = map(float, installation.await_ready(client).split())
    assert percent == pytest.approx(40, abs=4)
    (process,) = share.processes()
    assert process["launches"] > launches
    # The launches before the count, and what a thread has paid in advance, are charged as well.
    assert process["busy_ns"] >= launches * KERNEL_NS
    if isinstance(container, Tenant):
        assert process["busy_ns"] == pytest.approx(busy_ns(container, client.pid)[0], rel=0.1)
    installation.finish(client)


@pytest.mark.parametrize("way", [way for way in WAYS if OLD not in WAYS[way]])
def test_every_way_to_launch_is_throttled_and_charged(container: Container, way: str) -> None:
    check_throttled_and_charged(container, way)


@pytest.mark.parametrize("way", [way for way in WAYS if OLD in WAYS[way]])
def test_every_way_from_before_cuda_4_is_throttled_and_charged(tenant: Tenant, way: str) -> None:
    check_throttled_and_charged(tenant, way)


@pytest.mark.parametrize("cores", [20, 70])
def test_a_program_gets_the_part_of_the_card_that_its_share_says(container: Container, cores: int) -> None:
    container.share("one", memory=4 * GIB, cores=cores)
    client = container.machine.start(SETTING + WAYS["cuLaunchKernel_ptsz"] + COUNTED, **container.preloaded())
    assert float(installation.await_ready(client).split()[0]) == pytest.approx(cores, abs=4)
    installation.finish(client)


LIMITS = {"low": 30, "high": 60}


def test_of_a_launch_on_two_cards_each_card_pays_its_own_and_the_smaller_share_sets_the_pace(tenant: Tenant) -> None:
    shares = [tenant.share(key, card, memory=4 * GIB, cores=cores) for card, (key, cores) in enumerate(LIMITS.items())]
    client = tenant.machine.start(SETTING + TWO_CARDS + ENDLESS, **tenant.preloaded())
    installation.await_ready(client)
    time.sleep(0.5)
    low, high = percentages(tenant, client.pid, 1.5)
    assert low == pytest.approx(30, abs=4)
    assert high == pytest.approx(low, abs=1)
    for charged, busy in zip(charged_ns(shares), busy_ns(tenant, client.pid), strict=True):
        assert charged == pytest.approx(busy, rel=0.1)


def test_a_launch_on_two_streams_of_one_card_is_refused_as_by_the_driver(tenant: Tenant) -> None:
    tenant.share("one", memory=4 * GIB, cores=30)
    code = TWO_CARDS.replace("open_device(card)", "open_device(0)") + "print(launch())"
    answers = {tenant.machine.run(SETTING + code, **view) for view in ({}, tenant.preloaded())}
    assert answers == {"1"}
