"""What a hostile program tries in a tenant's container: sent into it, and run there with the container's own rights.

    python3 attacks.py ATTACK [ARGUMENT...]

One JSON object on stdout: for each attempt the error's name, or `done`. For attempts to take memory of the card it is
CUDA's error code. It needs Python's standard library alone, and nothing here is imported by the project.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import errno
import json
import mmap
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

SHARES = Path("/run/vgpu/shares")
LIBRARY = Path("/usr/local/vgpu/libvgpu.so")
PRELOAD = Path("/etc/ld.so.preload")
Outcome = dict[str, object]

MS_RDONLY, MS_REMOUNT, MS_BIND, MNT_DETACH = 1, 32, 4096, 2
_LIBC = ctypes.CDLL(None, use_errno=True)


def attempt(action: Callable[[], object]) -> str:
    """`done`, or the name of the error that the kernel gave."""
    try:
        action()
    except OSError as refused:
        return errno.errorcode[refused.errno or 0]
    return "done"


def system_call(name: str, *arguments: object) -> None:
    """A function of the C library that Python has no word for. Raises OSError."""
    if getattr(_LIBC, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


def mount(source: Path | str, target: Path, flags: int) -> None:
    """Raises OSError."""
    system_call("mount", str(source).encode(), str(target).encode(), None, ctypes.c_ulong(flags), None)


def spoil(file: Path) -> Outcome:
    """Every way to write a file that is mounted read-only, to take it away, or to lay something over it."""
    beside = Path(f"/tmp/{file.name}.{os.getuid()}")
    beside.write_bytes(b"mine")
    reading = os.open(file, os.O_RDONLY)
    return {
        "write": attempt(lambda: file.open("r+b")),
        "write through /proc": attempt(lambda: Path(f"/proc/self/fd/{reading}").open("r+b")),
        "write a mapping": attempt(lambda: mmap.mmap(reading, 0, prot=mmap.PROT_WRITE)),
        "truncate": attempt(lambda: os.truncate(file, 0)),
        "change mode": attempt(lambda: file.chmod(0o666)),
        "change owner": attempt(lambda: os.chown(file, 1, 1)),
        "remove": attempt(file.unlink),
        "put another in its place": attempt(lambda: beside.rename(file)),
        "mount writable": attempt(lambda: mount("none", file, MS_REMOUNT | MS_BIND)),
        "mount over": attempt(lambda: mount(beside, file, MS_BIND)),
        "unmount": attempt(lambda: system_call("umount2", str(file).encode(), MNT_DETACH)),
    }


def limits() -> Outcome:
    """The limits of the own share."""
    (share,) = SHARES.iterdir()
    return spoil(share / "limits")


def library() -> Outcome:
    """The library of the preload."""
    return spoil(LIBRARY)


def preload() -> Outcome:
    """The file that names the library."""
    return spoil(PRELOAD)


def reach(disk: str, *places: str) -> Outcome:
    """Files of the host's: by their paths, through the first process, by the disk itself, and by handles."""
    roots = ("", "/proc/1/root", "/proc/1/cwd", "/proc/self/root/..")
    found = {f"{root}{place}": attempt(Path(root + place).stat) for root in roots for place in places}
    node = Path(f"/tmp/disk.{os.getuid()}")
    handle = ctypes.create_string_buffer(b"\x08\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0", 16)
    return {
        **found,
        "make the disk's node": attempt(lambda: os.mknod(node, stat.S_IFBLK | 0o600, int(disk))),
        "open the disk": attempt(lambda: os.open(node, os.O_RDONLY)),
        "open by handle": attempt(lambda: system_call("open_by_handle_at", 0, handle, os.O_RDONLY)),
        "shares in view": sorted(share.name for share in SHARES.iterdir()),
    }


def take(size: str) -> Outcome:
    """CUDA's answer to a wish for so many bytes of the first card."""
    cuda = ctypes.CDLL("libcuda.so.1")
    device, context, address = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
    steps: tuple[Callable[[], int], ...] = (
        lambda: cuda.cuInit(0),
        lambda: cuda.cuDeviceGet(ctypes.byref(device), 0),
        lambda: cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device),
        lambda: cuda.cuCtxSetCurrent(context),
        lambda: cuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(int(size))),
    )
    return {"taken": next((code for step in steps if (code := step())), 0)}


def ask(first: str, second: str) -> Outcome:
    """CUDA's answers to two wishes, one after the other."""
    return {"first": take(first)["taken"], "second": take(second)["taken"]}


def taken_by(size: str, *, environment: Mapping[str, str] | None = None, loader: str = "") -> object:
    """The same, in a process of its own with another environment or another loader."""
    command = [*filter(None, [loader]), sys.executable, __file__, "take", size]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        return done.stderr[-300:]
    return json.loads(done.stdout)["taken"]


def elsewhere(size: str, uuid: str) -> Outcome:
    """Words and folders of the tenant's own, with more memory; and the vendor's library in front of the shim."""
    folder = f"/tmp/mine.{os.getuid()}"
    words = {"VGPU_SHARE_MINE": f"uuid={uuid},memory=17179869184,cores=100,policy=shared"}
    changed = {name: words["VGPU_SHARE_MINE"] for name in os.environ if name.startswith("VGPU_SHARE_")}
    cuda = next(iter(Path("/usr/lib").glob("*/libcuda.so.1")))
    return {
        "another folder": taken_by(size, environment={**os.environ, "VGPU_SHARES_DIR": folder}),
        "another folder, and words": taken_by(size, environment={**os.environ, "VGPU_SHARES_DIR": folder, **words}),
        "own words changed": taken_by(size, environment={**os.environ, **changed}),
        "an empty environment": taken_by(size, environment={}),
        "an empty LD_PRELOAD": taken_by(size, environment={**os.environ, "LD_PRELOAD": ""}),
        "the vendor's library before it": taken_by(size, environment={**os.environ, "LD_PRELOAD": str(cuda)}),
    }


def move_away(size: str) -> Outcome:
    """Move the folder that the library is mounted in, which is no mount itself; and back again."""
    away = LIBRARY.parent.with_name("away")
    moved = attempt(lambda: LIBRARY.parent.rename(away))
    try:
        return {"move": moved, "taken": taken_by(size)}
    finally:
        if moved == "done":
            away.rename(LIBRARY.parent)


def close_library(size: str) -> Outcome:
    """Close the shim as often as it takes a library that is in use once."""
    handle = ctypes.CDLL(str(LIBRARY), mode=os.RTLD_NOLOAD | os.RTLD_NOW)
    closed = [ctypes.CDLL(None).dlclose(ctypes.c_void_p(handle._handle)) for _ in range(20)]
    return {"closed": len(closed), **take(size)}


def forge(size: str, page: str) -> Outcome:
    """A share folder of the tenant's own beside the real one, with more memory of the same card."""
    (real,) = SHARES.iterdir()
    forged = SHARES / "forged"
    made = attempt(forged.mkdir)
    try:
        if made == "done":
            (forged / "limits").write_bytes(base64.b64decode(page))
            (forged / "usage").write_bytes((real / "usage").read_bytes()[:0])
            os.truncate(forged / "usage", (real / "usage").stat().st_size)
            head = bytearray((real / "usage").read_bytes()[:4096])
            with (forged / "usage").open("r+b") as file:
                file.write(head.replace(real.name.encode(), b"forged".ljust(len(real.name), b"\0")))
        return {"make": made, "taken": taken_by(size)}
    finally:
        shutil.rmtree(forged, ignore_errors=True)


def grow(size: str) -> Outcome:
    """Make the usage file as large as the disk would take it."""
    (share,) = SHARES.iterdir()
    with (share / "usage").open("r+b") as file:
        os.truncate(file.fileno(), int(size))
        file.seek(int(size) - (8 << 20))
        file.write(b"x" * (8 << 20))
        return {"size": os.fstat(file.fileno()).st_size}


def spoil_accounting(size: str) -> Outcome:
    """Wipe the head of the usage file, look what is given then, and put it back."""
    (share,) = SHARES.iterdir()
    with (share / "usage").open("r+b") as file:
        head = file.read(4096)
        try:
            file.seek(0)
            file.write(bytes(len(head)))
            file.flush()
            return {"one byte": taken_by("1"), "taken": taken_by(size)}
        finally:
            file.seek(0)
            file.write(head)


def forget_accounting(size: str, offset: str) -> Outcome:
    """Write, while memory is held, that none is."""
    (share,) = SHARES.iterdir()
    half = str(int(size) // 2)
    first = take(half)["taken"]
    with (share / "usage").open("r+b") as file:
        file.seek(int(offset))
        file.write(bytes(8))
    return {"first": first, "second": take(half)["taken"], "third": take(half)["taken"]}


def own_loader(size: str) -> Outcome:
    """A dynamic linker of the tenant's own that looks for the preload elsewhere."""
    original = next(iter(Path("/usr/lib").glob("*/ld-linux-*.so.*")))
    own = Path(f"/tmp/ld.{os.getuid()}")
    own.write_bytes(original.read_bytes().replace(b"/etc/ld.so.preload", b"/etc/no.so.preload"))
    own.chmod(0o755)
    try:
        return {"taken": taken_by(size, loader=str(own))}
    finally:
        own.unlink()


def main() -> None:
    """Run one attack by its name."""
    attack, *arguments = sys.argv[1:]
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(globals()[attack](*arguments)))


if __name__ == "__main__":
    main()
