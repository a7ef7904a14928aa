"""A process with shared heaps keeps less of what its threads needed once."""

from __future__ import annotations

import subprocess
import sys

# Threads that all allocate at once what is too large for Python's own allocator, and let go of it.
_PROGRAM = """
import threading
from dra_driver.footprint import share_heaps

if {shared}:
    assert share_heaps()
begin = threading.Barrier(16)

def work():
    begin.wait(60)
    for _ in range(50):
        parts = [bytes(4096) for _ in range(64)]

threads = [threading.Thread(target=work) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(60)
print(sum(line.split()[5:] == [] and line.split()[1] in ("rw-p", "---p") for line in open("/proc/self/maps")))
"""


def heaps(*, shared: bool) -> int:
    """How many nameless mappings such a process has: two for each heap."""
    program = _PROGRAM.format(shared=shared)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return int(done.stdout)


def test_many_threads_share_a_few_heaps() -> None:
    assert heaps(shared=True) + 8 <= heaps(shared=False)
