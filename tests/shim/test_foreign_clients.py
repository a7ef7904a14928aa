"""Programs that nobody here wrote, on top of the driver: their allocators and launches are held to the share too.

nvidia-ml-py and cuda-bindings are what the other tests' clients are made of; here are those that build on them.
"""

import importlib.util
import json

import pytest

from tests.shim.sharefiles import ShareFiles
from tests.shim.tenants import Container
from tests.simgpu import installation

GIB = 1 << 30
MIB = 1 << 20

NVITOP = """
import json
from nvitop import Device
card = Device.all()[0]
print(json.dumps([card.memory_total(), card.memory_used(), sorted(card.processes())]))
"""
# NVIDIA's own Pythonic layer: streams, memory pools that keep what is freed, kernels from PTX.
CUDA_CORE = """
from cuda.core import Device, LaunchConfig, ObjectCode, launch
card = Device(0); card.set_current(); stream = card.create_stream()
total = check(driver.cuMemGetInfo())[1]
memory = card.allocate(1 << 30, stream=stream)
try: refused = not card.allocate(total, stream=stream)
except Exception as error: refused = "OUT_OF_MEMORY" in str(error)
image = ObjectCode.from_ptx((KERNELS / "fill_u32.ptx").read_bytes())
launch(stream, LaunchConfig(grid=1, block=32), image.get_kernel("fill_u32"), memory,
       ctypes.c_uint32(7), ctypes.c_uint64(1000))
stream.sync()
read = bytearray(4000); check(driver.cuMemcpyDtoH(read, int(memory.handle), 4000))
ready(total, refused, set(read[::4]) == {7}); release()
"""
# A just-in-time compiler's driver layer: contexts, arrays, pinned and managed memory, streams.
NUMBA = """
from numba import cuda
import numpy
context = cuda.current_context()
total = context.get_memory_info().total
array = cuda.device_array(1 << 30, dtype=numpy.uint8)
try: refused = not cuda.device_array(total, dtype=numpy.uint8)
except Exception as error: refused = "OUT_OF_MEMORY" in str(error)
stream = cuda.stream(); there = numpy.arange(1000, dtype=numpy.float32)
back = cuda.to_device(there, stream=stream).copy_to_host(stream=stream); stream.synchronize()
managed = cuda.managed_array(1 << 20, dtype=numpy.uint8)
ready(total, refused, bool((back == there).all())); release()
"""


def charged(share: ShareFiles) -> int:
    (process,) = share.processes()
    return process["buffer_bytes"] + process["managed_bytes"]


@pytest.mark.parametrize(("library", "code"), [("cuda.core", CUDA_CORE), ("numba_cuda", NUMBA)])
def test_a_library_on_top_of_the_driver_gets_its_share_and_is_refused_the_rest(
    container: Container, library: str, code: str
) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    share = container.share("one", memory=4 * GIB, cores=50)
    client = container.machine.start(code, **container.preloaded())
    assert installation.await_ready(client) == f"{4 * GIB} True True"
    assert GIB <= charged(share) < GIB + 64 * MIB
    installation.finish(client)


def test_a_monitor_shows_the_share_as_the_card_and_its_processes_alone(container: Container) -> None:
    share = container.share("one", memory=4 * GIB)
    hold = "open_device(); check(driver.cuMemAlloc(1 << 30)); ready(); release()"
    clients = [container.machine.start(hold), container.machine.start(hold, **container.preloaded())]
    for client in clients:
        installation.await_ready(client)
    total, used, pids = json.loads(container.machine.run(NVITOP, **container.preloaded()))
    assert (total, pids) == (4 * GIB, [clients[1].pid])
    assert used == share.usage("charged_bytes") > GIB
    for client in clients:
        installation.finish(client)
