"""The command `python -m tests.stack`: everything up, to look around in, or down."""

from __future__ import annotations

import argparse
import sys

from tests.cluster.cluster import Cluster
from tests.cluster.errors import ClusterError
from tests.stack.stack import Stack


def main() -> int:
    """Exit status 0, or 1 with the reason."""
    parser = argparse.ArgumentParser(prog="python -m tests.stack", description=__doc__)
    parser.add_argument("command", choices=("up", "down"))
    options = parser.parse_args()
    try:
        if options.command == "up":
            Stack.up()
            print('\nLook around with:  eval "$(.venv/bin/python -m tests.cluster env)"; kubectl get resourceslices')
        else:
            Stack.on(Cluster.attach()).down()
    except (ClusterError, OSError) as failed:
        print(f"error: {failed}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
