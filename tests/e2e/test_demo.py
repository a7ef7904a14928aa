"""`make demo` runs to its end: what newcomers see first must not be the first thing to break."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.stack.places import ROOT
from tests.stack.stack import Stack


def test_the_demo_tells_its_story_to_the_end(stack: Stack) -> None:
    assert stack.plugin.running
    demo = subprocess.run(
        [sys.executable, "-m", "tests.demo"],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    for words in ("CUDA_ERROR_OUT_OF_MEMORY", "FailedScheduling", "nothing of them is left", "make cluster-down"):
        # Lines are broken to fit a terminal.
        assert words in " ".join(demo.stdout.split())
