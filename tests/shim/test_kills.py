"""SIGKILL at random points: no charge is left after a second, and nobody is stuck.

VGPU_TEST_KILLS=1000 (`make test-kills`) makes the runs as many as the claim says; without it they are fewer, to fit a
test run.
"""

import json
import os
import random
import subprocess
import time
from pathlib import Path

from tests.shim.builds import made
from tests.shim.racing import line_up, start
from tests.shim.tenants import Container
from tests.shim.waiting import wait_until
from tests.simgpu import installation

GIB = 1 << 30
KILLS = int(os.environ.get("VGPU_TEST_KILLS", "48"))
AT_ONCE = 6


def test_processes_killed_at_random_points_leave_no_charge_after_a_second(container: Container) -> None:
    share = container.share("one", memory=8 * GIB)
    (survivor,) = line_up(container, 1, 1, 1, GIB)
    alone = share.usage("charged_bytes")
    chance = random.Random(11)
    for _ in range(-(-KILLS // AT_ONCE)):
        victims = line_up(container, AT_ONCE, 2, 100_000_000, 2 * GIB)
        start(victims)
        for victim in chance.sample(victims, AT_ONCE):
            time.sleep(chance.random() * 0.01)  # somewhere amid its work: which instruction is left to chance
            installation.kill(victim)
        since = time.monotonic()
        wait_until(lambda: share.usage("charged_bytes") == alone)
        assert time.monotonic() - since < 1.0
    assert [process["pid"] for process in share.processes()] == [survivor.pid]
    assert share.usage("peak_bytes") <= 8 * GIB
    installation.finish(survivor)


def test_processes_killed_amid_the_accounting_itself_leave_an_exact_total(tmp_path: Path) -> None:
    """No driver and no start-up around it: every kill hits a change, a repair or a recount."""
    hammer = made("units") / "shim-units" / "hammer"
    kills = max(KILLS * 6, 256)
    done = subprocess.run(
        [str(hammer), str(tmp_path / "share"), str(kills), "7"],
        capture_output=True,
        text=True,
        timeout=120 + kills // 10,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["kills"] == kills
    assert report["overruns"] == 0
    assert report["refused"] > kills
    assert report["longest_ms"] < 1000
