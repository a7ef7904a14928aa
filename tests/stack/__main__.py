"""The command `python -m tests.stack`: everything up, to look around in. `python -m tests.cluster down` ends it."""

from __future__ import annotations

import argparse
import sys

from tests.cluster.errors import ClusterError
from tests.stack.stack import Stack


def main() -> int:
    """Exit status 0, or 1 with the reason."""
    argparse.ArgumentParser(prog="python -m tests.stack", description=__doc__).parse_args()
    try:
        Stack.up()
    except (ClusterError, OSError) as failed:
        print(f"error: {failed}", file=sys.stderr)
        return 1
    print('\nLook around with:  eval "$(.venv/bin/python -m tests.cluster env)"; kubectl get resourceslices')
    return 0


if __name__ == "__main__":
    sys.exit(main())
