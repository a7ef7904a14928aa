"""What the shim leaves as it is in a program that uses a card: its signals, its mask, its output, its other threads."""

from tests.shim.tenants import Container, Tenant

GIB = 1 << 30

# All that the shim does at one time or another has been done before the program looks at itself. The first thread of a
# process, whoever makes it, lets the C library take a signal of its own: here the program itself has made it.
USE_AND_LOOK = """
import os, re, signal, threading
threading.Thread(target=int).start()
signal.signal(signal.SIGUSR1, lambda *_: None)
open_device()
check(driver.cuMemFree(check(driver.cuMemAlloc(1 << 20))))
kernel = Kernel("spin_ns", ctypes.c_uint64)
for _ in range(20): check(kernel.launch(1000000))
check(driver.cuCtxSynchronize())
nvml.nvmlInit(); nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByIndex(0))
int(driver.cuMemAlloc(1 << 50)[0])
time.sleep(0.5)
os.umask(mask := os.umask(0))
status = open("/proc/self/status").read()
print(mask, re.findall(r"^Sig(?:Cgt|Ign|Blk):.*", status, re.M), os.getcwd(), ctypes.CDLL(None).getpid() == os.getpid())
"""


def test_a_program_that_uses_a_card_keeps_its_signals_its_mask_and_its_output(container: Container) -> None:
    container.share("one", memory=4 * GIB, cores=50)
    native = container.machine.run(USE_AND_LOOK)
    assert container.machine.run(USE_AND_LOOK, **container.preloaded()) == native


# The card's queue is full: the driver keeps a thread in its launch until the card has done some of the work.
FULL_QUEUE = """
import threading
open_device()
context = check(driver.cuCtxGetCurrent())
kernel = Kernel("spin_ns", ctypes.c_uint64)
launched, queue = 0, 1024
def fill():
    global launched
    check(driver.cuCtxSetCurrent(context))
    while True:
        check(kernel.launch(50_000_000)); launched += 1
threading.Thread(target=fill, daemon=True).start()
while launched < queue: time.sleep(0.01)
time.sleep(0.2)
before, since = launched, time.monotonic()
for _ in range(100):
    check(driver.cuMemFree(check(driver.cuMemAlloc(1 << 20)))); check(driver.cuMemGetInfo())
print(launched - before < 20, time.monotonic() - since < 1, flush=True)
import os; os._exit(0)
"""


def test_a_thread_that_the_driver_keeps_waiting_holds_up_no_other(tenant: Tenant) -> None:
    tenant.share("one", memory=4 * GIB)
    assert tenant.machine.run(FULL_QUEUE, **tenant.preloaded()) == "True True"
