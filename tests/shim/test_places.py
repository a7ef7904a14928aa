"""Where a pod's settings leave little: no /proc, no /dev/shm, nothing to write to, no rights, few system calls."""

import signal
import subprocess

import pytest

from tests.shim.builds import made
from tests.shim.places import NO_RIGHTS, Place, can_be_made, open_to_all
from tests.shim.tenants import SHIM, Container, Tenant

GIB = 1 << 30
LIMITED = (0, f"{2 * GIB} 2\n")
WHOLE = (0, f"{16 * GIB} 2\n")
PROGRAM = "/mnt/build/shim-probes/linked_limit"

pytestmark = pytest.mark.skipif(not can_be_made(), reason="needs root: mount namespaces")


@pytest.fixture
def shared(container: Container) -> Container:
    """A container with one share of 2 GiB."""
    container.share("one", memory=2 * GIB)
    open_to_all(container.shares)
    return container


def seen(place: Place, *command: str) -> tuple[int, str]:
    done = place.run(*command)
    return done.returncode, done.stdout


def test_the_mounted_shares_count_and_a_variable_cannot_lead_elsewhere(shared: Container) -> None:
    more = {"VGPU_SHARES_DIR": "/mnt/log", "VGPU_SHARE_MORE": f"uuid={shared.uuids[0]},memory={8 * GIB}"}
    assert seen(Place(shared, environment=more), PROGRAM) == LIMITED


def test_a_share_that_no_mount_has_brought_adds_nothing(shared: Container) -> None:
    own = Place(shared, steps=("cp -r /run/vgpu/shares/one /run/vgpu/shares/own",))
    done = own.run(PROGRAM)
    assert (done.returncode, done.stdout) == LIMITED
    assert done.stderr.count("share /run/vgpu/shares/own is left out") == 1


def test_the_vendor_s_library_put_first_takes_no_limit_away(shared: Container) -> None:
    """Which holds for programs that look the functions up; one that is linked with them has gone past us."""
    first = Place(shared, environment={"LD_PRELOAD": "libcuda.so.1:/mnt/build/libvgpu.so"})
    assert seen(first, "/mnt/build/shim-probes/takes", str(8 * GIB)) == (0, "2\n")


@pytest.mark.parametrize(
    "step",
    [
        "mount -t tmpfs -o ro none /proc",
        "mount -t tmpfs -o ro none /dev/shm",
        "mount -t tmpfs -o ro none /tmp",
        "mount -t tmpfs -o ro none /sys",
        "mount -o remount,bind,ro / && mount -o remount,ro /mnt",
    ],
    ids=["no-proc", "no-shm", "no-tmp", "no-sys", "read-only-root"],
)
def test_a_missing_or_read_only_place_takes_no_limit_away(tenant: Tenant, step: str) -> None:
    """On a simulated card: a real driver itself needs /proc and /sys."""
    tenant.share("one", memory=2 * GIB)
    open_to_all(tenant.shares)
    assert seen(Place(tenant, steps=(step,)), PROGRAM) == LIMITED


def test_a_user_without_any_right_on_a_read_only_root_is_limited(shared: Container) -> None:
    hardened = Place(
        shared,
        steps=("mount -o remount,bind,ro /", "mount -t tmpfs -o ro none /dev/shm", "mount -o remount,ro /mnt"),
        wrapper=tuple(NO_RIGHTS),
    )
    status, output = seen(hardened, "/bin/sh", "-c", f"id -u; grep CapBnd /proc/self/status; exec {PROGRAM}")
    assert status == 0
    assert output.split() == ["65534", "CapBnd:", "0000000000000000", str(2 * GIB), "2"]


def test_a_usage_file_that_cannot_be_written_to_passes_through_unless_the_share_says_deny(container: Container) -> None:
    for key, flags, expected in (("open", 0, "0"), ("deny", 2, "2")):
        share = container.share(key, memory=2 * GIB, flags=flags)
        read_only = Place(container, steps=(f"mount -o remount,bind,ro /run/vgpu/shares/{key}/usage",))
        done = read_only.run("/mnt/build/shim-probes/takes", str(8 * GIB))
        assert (done.returncode, done.stdout) == (0, f"{expected}\n")
        assert done.stderr.count("cannot be used: Read-only file system") == 1
        for path in share.folder.iterdir():
            path.unlink()
        share.folder.rmdir()


def test_what_container_runtimes_forbid_is_not_needed(shared: Container) -> None:
    confined = "/mnt/build/shim-probes/confined"
    assert seen(Place(shared), confined, PROGRAM) == LIMITED
    # The filter bites: what it forbids ends the program.
    assert seen(Place(shared), confined, "/usr/bin/unshare", "--mount", "true")[0] == -signal.SIGSYS


def test_a_share_in_words_without_any_place_to_write_is_told_of_and_does_not_stop_the_program(tenant: Tenant) -> None:
    words = {"VGPU_SHARE_BARE": f"uuid={tenant.uuids[0]},memory={2 * GIB}", "TMPDIR": "/mnt"}
    bare = Place(tenant, steps=("rm -r /run/vgpu", "mount -o remount,ro /mnt"), environment=words)
    done = bare.run(PROGRAM)
    assert (done.returncode, done.stdout) == WHOLE
    assert "makes no share: Read-only file system" in done.stderr


@pytest.mark.parametrize(("answer", "expected"), [("", "0"), (",onerror=pass", "0"), (",onerror=deny", "2")])
def test_what_words_that_make_no_share_grant_is_what_they_say(tenant: Tenant, answer: str, expected: str) -> None:
    words = {"VGPU_SHARE_BARE": f"uuid={tenant.uuids[0]},memory={2 * GIB}{answer}", "TMPDIR": "/mnt"}
    bare = Place(tenant, steps=("rm -r /run/vgpu", "mount -o remount,ro /mnt"), environment=words)
    done = bare.run("/mnt/build/shim-probes/takes", str(8 * GIB))
    assert (done.returncode, done.stdout) == (0, f"{expected}\n")


def plain(kind: str, *, preload: bool) -> tuple[int, str, str]:
    program = made("plain") / "shim-plain" / kind
    extra = {"LD_PRELOAD": str(SHIM)} if preload else {}
    done = subprocess.run([str(program)], env=extra, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("kind", ["musl", "static"])
def test_programs_of_a_musl_image_and_static_ones_run_as_without_the_shim(kind: str) -> None:
    native = plain(kind, preload=False)
    assert native[0] == 0
    assert plain(kind, preload=True) == native


def test_the_systems_preload_list_disturbs_no_program_of_any_kind(tenant: Tenant) -> None:
    made("plain")
    steps = (
        "cp -a /etc/ld.so.cache /etc/passwd /mnt/log/",
        "cp -a /etc/ld-musl-x86_64.path /mnt/log/ 2>/dev/null || true",
        "echo /mnt/build/libvgpu.so > /mnt/log/ld.so.preload",
        "mount --bind /mnt/log /etc",
    )
    place = Place(tenant, steps=steps, environment={"LD_PRELOAD": ""})
    check = "grep -c libvgpu /proc/self/maps > /dev/null && ls / > /dev/null && echo preloaded"
    done = place.run("/bin/sh", "-c", check)
    assert (done.returncode, done.stdout, done.stderr) == (0, "preloaded\n", "")
    for kind in ("musl", "static"):
        done = place.run(f"/mnt/build/shim-plain/{kind}")
        assert (done.returncode, done.stderr) == (0, "")
