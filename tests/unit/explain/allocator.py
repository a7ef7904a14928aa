"""The scheduler's own allocator as a process: questions in, answers out (tests/cluster/tools/allocator)."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.cluster import toolchain
from tests.cluster.progress import Progress


def ask(questions: Iterable[dict[str, Any]], program: Path | None = None) -> Iterator[dict[str, Any]]:
    """Yield the answer to each question: `{"fits", "results", "error"}`."""
    program = program or toolchain.ensure(Progress()) / "allocator"
    lines = [json.dumps(question) + "\n" for question in questions]
    with subprocess.Popen((str(program),), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        writer = threading.Thread(target=_write, args=(process.stdin, lines))
        writer.start()
        for line in process.stdout:
            yield json.loads(line)
        writer.join()
    assert process.returncode == 0


def _write(stream: Any, lines: list[str]) -> None:
    stream.writelines(lines)
    stream.close()
