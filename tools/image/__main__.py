"""Command line of the images: `python -m tools.image [name …]`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.image.errors import ImageError
from tools.image.oci import ARCHITECTURES
from tools.image.recipes import RECIPES, Workshop, build
from tools.setup.layout import Layout


def main(argv: Sequence[str]) -> int:
    """Exit status 0: the images are there; 1: one could not be built; 2: wrong usage."""
    names = {recipe.name: recipe for recipe in RECIPES}
    parser = argparse.ArgumentParser(prog="python -m tools.image", description=__doc__)
    parser.add_argument("images", nargs="*", choices=[*names, []], metavar="name", help=f"of {', '.join(names)} (all)")
    parser.add_argument("--base", type=Path, help="OCI archive or folder to build upon, with /usr/bin/python3.11")
    parser.add_argument("--architecture", action="append", choices=list(ARCHITECTURES), help="(all)")
    parser.add_argument("--out", type=Path, help="folder for the archives (build/images)")
    options = parser.parse_args(argv)
    layout = Layout.of(Path(__file__).resolve().parents[2], os.environ)
    workshop = Workshop(layout.root, options.out or layout.build / "images", layout.cache, options.base)
    try:
        for name in options.images or names:
            built = build(names[name], workshop, tuple(options.architecture or ARCHITECTURES))
            sizes = ", ".join(f"{size / 1e6:.1f} MB for {name}" for name, size in built.sizes.items())
            print(f"{built.archive}  {built.digest}  {sizes}")
    except ImageError as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
