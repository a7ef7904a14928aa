"""The command `python -m tests.matrix`: every row, or those that are named, each on a cluster of its own.

It takes minutes for each row, and the first time on a machine much longer, to build that Kubernetes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from tests.cluster.paths import FOLDER_VARIABLE, local_paths
from tests.cluster.releases import GATES_VARIABLE, VERSION_VARIABLE
from tests.matrix.rows import Row, rows

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "build" / "matrix"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 when all that was run has passed."""
    known = {row.name: row for row in rows()}
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(known)} (all)")
    names = parser.parse_args(arguments).rows or list(known)
    if unknown := sorted(set(names) - set(known)):
        parser.error(f"no row {', '.join(unknown)}: there are {', '.join(known)}")
    RESULTS.mkdir(parents=True, exist_ok=True)
    passed = {name: _run(known[name]) for name in names}
    print("\n".join(["", *(_summary(known[name], ok) for name, ok in passed.items())]))
    return 0 if all(passed.values()) else 1


def _run(row: Row) -> bool:
    """Run one row's tests; pytest's fixtures bring the cluster up and take it away."""
    print(f"\n== Kubernetes {row.name}", flush=True)
    deselected = [f"--deselect={test}" for test in row.left_out]
    command = (sys.executable, "-m", "pytest", "-q", *row.tests, *deselected, f"--junitxml={_result(row)}")
    return subprocess.run(command, cwd=ROOT, env=_environment(row), check=False).returncode == 0


def _environment(row: Row) -> dict[str, str]:
    usual = local_paths(None).folder
    environ = {name: value for name, value in os.environ.items() if name not in ("KUBECONFIG", GATES_VARIABLE)}
    gates = {} if row.gates is None else {GATES_VARIABLE: row.gates}
    own = {VERSION_VARIABLE: row.minor, FOLDER_VARIABLE: str(usual.with_name(f"{usual.name}-matrix"))}
    return {**environ, **gates, **own}


def _result(row: Row) -> Path:
    return RESULTS / f"{row.name}.xml"


def _summary(row: Row, passed: bool) -> str:
    verdict = "passed" if passed else "FAILED"
    counts = ""
    if _result(row).exists():
        suite = ElementTree.parse(_result(row)).getroot().find("testsuite")
        if suite is not None:
            counts = ", ".join(f"{suite.get(name)} {name}" for name in ("tests", "failures", "errors", "skipped"))
    left_out = "".join(f"\n    left out: {test}: {why}" for test, why in row.left_out.items())
    return f"{row.name:20} {verdict}: {counts}{left_out}"


if __name__ == "__main__":
    sys.exit(main())
