"""What the NVIDIA Container Runtime does, at its interface: brings cards into a container that no CDI request names.

    container_runtime.py --specification FILE --runtime PROGRAM -- ARGUMENTS OF AN OCI RUNTIME

A node plugin must see the cards before anything of it is published, so no CDI device can be asked for it. On a real
node it runs under the runtime class of NVIDIA's runtime, which reads NVIDIA_VISIBLE_DEVICES from the container's
environment: `all` or names of cards, `none` for the driver alone, `void` or nothing for a container that stays as it
is. This one reads the same, and before a container is created it writes into the bundle what the simulated
installation's CDI specification says: device nodes with the cgroup's leave to use them, and mounts, of the libraries
only those that NVIDIA_DRIVER_CAPABILITIES names. Then the real runtime takes this process over, arguments unchanged.

It needs Python's standard library alone: it runs in a runtime's place, with no environment of the project's.
"""

import argparse
import json
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Wire = dict[str, Any]

# As the real one has it, where a container says nothing.
DEFAULT_CAPABILITIES = "utility,compute"
_CAPABILITY_OF = {"libnvidia-ml.so.1": "utility", "libcuda.so.1": "compute"}


class CannotInject(Exception):
    """The container asks for what the node has not; the text says what."""


def inject(config: Wire, specification: Wire) -> Wire:
    """The bundle's configuration with the cards that its environment asks for. Raises CannotInject, OSError."""
    environment = config["process"].get("env") or []
    words = dict(entry.partition("=")[::2] for entry in environment)
    names = [name for name in words.get("NVIDIA_VISIBLE_DEVICES", "").split(",") if name]
    if names in ([], ["void"]):
        return config
    edits = [specification["containerEdits"], *(_device(specification, name) for name in names if name != "none")]
    wanted = set((words.get("NVIDIA_DRIVER_CAPABILITIES") or DEFAULT_CAPABILITIES).split(","))
    mounts = [mount for one in edits for mount in one.get("mounts", ()) if _is_wanted(mount, wanted)]
    nodes = {node["path"]: node for one in edits for node in one.get("deviceNodes", ())}
    devices = [_linux_device(node) for node in nodes.values()]
    linux = config["linux"]
    resources = linux.get("resources") or {}
    return {
        **config,
        "mounts": [*config.get("mounts", ()), *map(_bind, mounts)],
        "linux": {
            **linux,
            "devices": [*(linux.get("devices") or ()), *devices],
            "resources": {**resources, "devices": [*(resources.get("devices") or ()), *map(_leave, devices)]},
        },
    }


def _device(specification: Wire, name: str) -> Wire:
    for device in specification["devices"]:
        if device["name"] == name:
            edits: Wire = device["containerEdits"]
            return edits
    raise CannotInject(f"NVIDIA_VISIBLE_DEVICES: no card {name} on this node")


def _is_wanted(mount: Wire, capabilities: set[str]) -> bool:
    needs = _CAPABILITY_OF.get(Path(mount["containerPath"]).name)
    return needs is None or "all" in capabilities or needs in capabilities


def _bind(mount: Wire) -> Wire:
    return {
        "destination": mount["containerPath"],
        "source": mount["hostPath"],
        "type": "bind",
        "options": mount["options"],
    }


def _linux_device(node: Wire) -> Wire:
    found = Path(node.get("hostPath") or node["path"]).stat()
    return {
        "path": node["path"],
        "type": "c",
        "major": os.major(found.st_rdev),
        "minor": os.minor(found.st_rdev),
        "fileMode": stat.S_IMODE(found.st_mode),
        "uid": found.st_uid,
        "gid": found.st_gid,
    }


def _leave(device: Wire) -> Wire:
    """Without this the device cgroup denies the node, whoever opens it."""
    return {"allow": True, "type": "c", "major": device["major"], "minor": device["minor"], "access": "rw"}


def edit_bundle(bundle: Path, specification: Path) -> None:
    """Rewrite the bundle's configuration where cards are asked for. Raises CannotInject, OSError, ValueError."""
    place = bundle / "config.json"
    config = json.loads(place.read_text())
    edited = inject(config, json.loads(specification.read_text()))
    if edited is not config:
        place.write_text(json.dumps(edited))


def _bundle(arguments: Sequence[str]) -> Path:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--bundle", "-b", type=Path, default=Path())
    bundle: Path = parser.parse_known_args(arguments)[0].bundle
    return bundle


def _tell(arguments: Sequence[str], message: str) -> None:
    """Write an error where containerd looks for one of a runtime's, and to stderr."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--log", type=Path)
    log = parser.parse_known_args(arguments)[0].log
    if log is not None:
        with log.open("a") as file:
            file.write(json.dumps({"level": "error", "msg": message}) + "\n")
    print(message, file=sys.stderr)


def main() -> None:
    """Ends with status 1 and a reason, or becomes the runtime."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--specification", type=Path, required=True, help="the CDI specification of the cards")
    parser.add_argument("--runtime", required=True, help="the OCI runtime that does the work")
    parser.add_argument("arguments", nargs="+", metavar="ARGUMENT")
    options = parser.parse_args()
    if "create" in options.arguments:
        try:
            edit_bundle(_bundle(options.arguments), options.specification)
        except (CannotInject, OSError, ValueError) as error:
            _tell(options.arguments, f"simulated NVIDIA runtime: {error}")
            sys.exit(1)
    os.execv(options.runtime, [options.runtime, *options.arguments])


if __name__ == "__main__":
    main()
