"""The simulated installation: what a node with NVIDIA cards and the Container Toolkit would look like.

    python native/simgpu/install.py --root DIR --cdi-dir DIR --lib-dir BUILT [--cards FILE]
    python native/simgpu/install.py --root DIR --cdi-dir DIR --remove

Puts the libraries in DIR/lib, the state in DIR/state, device nodes in DIR/dev, and writes the CDI
specification of kind nvidia.com/gpu with one device per index, one per UUID, and `all`. Running it
again changes nothing; an existing state is kept unless --fresh is given. Making device nodes needs
root; --plain-nodes makes plain files in their place, which serve for tests without containers.
"""

import argparse
import json
import os
import shutil
import stat
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import simgpuctl
import statefile
from cards import read_description

LIBRARIES = ("libcuda.so.1", "libnvidia-ml.so.1")
CONTAINER_LIBRARIES = {"x86_64": "/usr/lib/x86_64-linux-gnu", "aarch64": "/usr/lib/aarch64-linux-gnu"}
CONTAINER_STATE = "/run/simgpu/state"
SPEC_NAME = "nvidia.json"
NVIDIA_MAJOR = 195
CONTROL_NODES = {"nvidiactl": (NVIDIA_MAJOR, 255), "nvidia-uvm": (510, 0), "nvidia-uvm-tools": (510, 1)}


def write_whole(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Writes beside the place and renames, so that a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def copy_libraries(source: Path, target: Path) -> None:
    """Copies what differs; a library in use keeps its old content until its users end."""
    for name in LIBRARIES:
        content = (source / name).read_bytes()
        if not (target / name).exists() or (target / name).read_bytes() != content:
            write_whole(target / name, content, 0o755)


def make_node(path: Path, major: int, minor: int, plain: bool) -> None:
    """Makes a character device (or a plain file), unless it is there. PermissionError without root."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and (plain or path.stat().st_rdev == os.makedev(major, minor)):
        return
    path.unlink(missing_ok=True)
    if plain:
        path.touch()
    else:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(major, minor))
    path.chmod(0o666)


def make_nodes(root: Path, minors: list[int], plain: bool) -> None:
    """The nodes of the cards and of the driver."""
    for minor in minors:
        make_node(root / "dev" / f"nvidia{minor}", NVIDIA_MAJOR, minor, plain)
    for name, (major, minor) in CONTROL_NODES.items():
        make_node(root / "dev" / name, major, minor, plain)


def _node(root: Path, name: str) -> dict[str, str]:
    return {"path": f"/dev/{name}", "hostPath": str(root / "dev" / name), "permissions": "rw"}


def cdi_spec(root: Path, cards: list[tuple[str, int]], architecture: str) -> dict[str, object]:
    """The specification for cards given as (uuid, minor); the n-th card has the index n."""
    libraries = CONTAINER_LIBRARIES[architecture]
    devices = []
    for index, (uuid, minor) in enumerate(cards):
        edits = {"deviceNodes": [_node(root, f"nvidia{minor}")]}
        devices += [{"name": name, "containerEdits": edits} for name in (str(index), uuid)]
    everything = [_node(root, f"nvidia{minor}") for _, minor in cards]
    if everything:
        devices.append({"name": "all", "containerEdits": {"deviceNodes": everything}})
    mounts = [
        {
            "hostPath": str(root / "lib" / name),
            "containerPath": f"{libraries}/{name}",
            "options": ["ro", "nosuid", "nodev", "bind"],
        }
        for name in LIBRARIES
    ]
    mounts.append(
        {
            "hostPath": str(root / "state"),
            "containerPath": CONTAINER_STATE,
            "options": ["rw", "nosuid", "nodev", "bind"],
        }
    )
    common = {
        "env": ["NVIDIA_VISIBLE_DEVICES=void"],
        "deviceNodes": [_node(root, name) for name in CONTROL_NODES],
        "mounts": mounts,
    }
    return {"cdiVersion": "0.6.0", "kind": "nvidia.com/gpu", "devices": devices, "containerEdits": common}


def install(root: Path, cdi_dir: Path, lib_dir: Path, cards: Path | None, *, fresh: bool, plain: bool) -> None:
    """Makes or completes the installation. OSError when the machine refuses, ValueError for a bad description."""
    copy_libraries(lib_dir, root / "lib")
    state = root / "state"
    if fresh or not state.exists():
        simgpuctl.create(state, read_description(cards))
    raw = statefile.OpenState.at(state).state
    by_address = sorted(
        (raw.cards[index].facts for index in range(raw.card_count)),
        key=lambda facts: (facts.pci_domain, facts.pci_bus, facts.pci_device),
    )
    listed = [(facts.uuid.decode(), int(facts.minor)) for facts in by_address]
    make_nodes(root, [minor for _, minor in listed], plain)
    spec = cdi_spec(root, listed, os.uname().machine)
    write_whole(cdi_dir / SPEC_NAME, (json.dumps(spec, indent=2) + "\n").encode())


def remove(root: Path, cdi_dir: Path) -> None:
    """Removes all of it; what is not there is no error."""
    (cdi_dir / SPEC_NAME).unlink(missing_ok=True)
    for name in ("lib", "dev"):
        shutil.rmtree(root / name, ignore_errors=True)
    (root / "state").unlink(missing_ok=True)
    if root.is_dir() and not any(root.iterdir()):
        root.rmdir()


def main() -> int:
    """Exit status 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--cdi-dir", type=Path, required=True)
    parser.add_argument("--lib-dir", type=Path, help="folder with the built libraries")
    parser.add_argument("--cards", type=Path, help="card description (JSON); default two cards of 16 GiB")
    parser.add_argument("--fresh", action="store_true", help="replace an existing state")
    parser.add_argument("--plain-nodes", action="store_true", help="plain files in place of device nodes")
    parser.add_argument("--remove", action="store_true", help="take the installation away")
    arguments = parser.parse_args()
    root, cdi_dir = arguments.root.resolve(), arguments.cdi_dir.resolve()
    if not arguments.remove and not arguments.lib_dir:
        parser.error("--lib-dir is needed to install")
    try:
        if arguments.remove:
            remove(root, cdi_dir)
        else:
            lib_dir, fresh, plain = arguments.lib_dir, arguments.fresh, arguments.plain_nodes
            install(root, cdi_dir, lib_dir, arguments.cards, fresh=fresh, plain=plain)
    except (OSError, ValueError) as error:
        print(f"simgpu install: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
