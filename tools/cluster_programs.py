"""Makes the local cluster's programs, as part of the set-up.

Where they lie and when they are stale is the cluster's own business (tests/cluster). It needs the project's
environment, which the set-up itself does without: hence a program of its own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tests.cluster import toolchain
from tests.cluster.errors import ClusterError
from tests.cluster.progress import Progress

MODULES = (toolchain.MODULE, toolchain.HELM)


def main(argv: Sequence[str]) -> int:
    """Exit status 0: they are there (--check: were there already); 1: they are not."""
    parser = argparse.ArgumentParser(prog="python -m tools.cluster_programs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="build nothing, only tell")
    parser.add_argument("--go", metavar="PATH", help="the go program to build with")
    arguments = parser.parse_args(argv)
    if arguments.check:
        built = (toolchain.is_built(toolchain.binaries_folder(module=module), module) for module in MODULES)
        return 0 if all(built) else 1
    try:
        for module in MODULES:
            # Often: the set-up shows the newest line only.
            toolchain.ensure(Progress(sys.stdout, every=0.5), go=arguments.go, module=module)
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
