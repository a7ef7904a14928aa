"""Thirty seconds of fuzzing what the shim reads from the other side: a share's files, and a share in words.

`make fuzz` in native/vgpu-shim goes on for as long as SECONDS says. What it finds is kept beside the programs.
"""

import re
import subprocess
from pathlib import Path

from tests.shim.builds import SOURCES, made

SECONDS_EACH = 15
FUZZERS = {"share": 2_000, "words": 20_000}  # inputs that it must have tried, even on a slow machine


def start(name: str, folder: Path) -> "subprocess.Popen[str]":
    program = made("fuzzers") / "fuzz" / name
    found = folder / name
    found.mkdir()
    return subprocess.Popen(
        [
            str(program),
            f"-max_total_time={SECONDS_EACH}",
            "-timeout=10",
            "-print_final_stats=1",
            f"-artifact_prefix={folder}/{name}.",
            str(found),
            str(SOURCES / "tests" / "fuzz" / "corpus" / name),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_no_bytes_in_a_shares_files_or_words_make_the_shim_fail(tmp_path: Path) -> None:
    fuzzers = {name: start(name, tmp_path) for name in FUZZERS}
    for name, fuzzer in fuzzers.items():
        _, told = fuzzer.communicate(timeout=SECONDS_EACH + 60)
        assert fuzzer.returncode == 0, told[-4000:]
        tried = re.search(r"number_of_executed_units: (\d+)", told)
        assert tried
        assert int(tried[1]) >= FUZZERS[name]
