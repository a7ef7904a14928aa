"""The one place that runs external programs and waits for them, so that a failure always has one shape."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

from tests.cluster.errors import CommandFailed


def run(
    argv: Sequence[str],
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    timeout: float = 120.0,
) -> str:
    """Runs a program to its end and returns what it wrote to its standard output.

    `timeout` is in seconds. Raises CommandFailed for an exit status other than 0, for a program that
    cannot be started (status 127) and for one that ran too long (status 124).
    """
    try:
        done = subprocess.run(
            list(argv),
            input=stdin,
            capture_output=True,
            text=True,
            env=None if env is None else dict(env),
            cwd=cwd,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as absent:
        raise CommandFailed(argv, 127, "", str(absent)) from absent
    except subprocess.TimeoutExpired as late:
        raise CommandFailed(argv, 124, "", f"still running after {timeout:.0f} s") from late
    if done.returncode != 0:
        raise CommandFailed(argv, done.returncode, done.stdout, done.stderr)
    return done.stdout
