"""The C programs once more, with a sanitizer in the library, the probe, and the unit programs."""

import functools
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.shim.builds import made
from tests.shim.tenants import Tenant
from tests.simgpu import installation

GIB = 1 << 30
FOUND = 66


@dataclass(frozen=True)
class Sanitizer:
    """A build of everything with one sanitizer."""

    name: str
    runtime: str
    options: str
    wrapper: tuple[str, ...] = ()

    @property
    def build(self) -> Path:
        return made("sanitize") / self.name

    @functools.cached_property
    def preload(self) -> str:
        """The sanitizer's runtime has to come before the library that uses it."""
        asked = ["gcc", f"-print-file-name={self.runtime}"]
        path = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
        return f"{path} {self.build / 'libvgpu.so'}"


SANITIZERS = [
    Sanitizer("asan", "libasan.so", f"exitcode={FOUND}:handle_segv=0:detect_stack_use_after_return=1"),
    Sanitizer("ubsan", "libubsan.so", f"exitcode={FOUND}:print_stacktrace=1"),
    # Its shadow memory wants addresses that a random layout may have taken.
    Sanitizer("tsan", "libtsan.so", f"exitcode={FOUND}:die_after_fork=0:atexit_sleep_ms=20", ("setarch", "-R")),
]

# Each probe with its words. What they print is judged where they run without a sanitizer; here they must end well.
PROBES = [
    *(["lives", way] for way in ("fork", "bare-clone", "spawn", "vfork", "exec", "threads", "dlclose")),
    ["linked_limit"],
    ["linked_constructor"],
    ["symbol_lookup"],
    ["proc_address"],
    ["takes", str(GIB)],
    ["memory_answers"],
    ["racer", "8", "2000", str(GIB)],
    ["launcher", str(installation.KERNELS / "spin_ns.ptx"), "4", "256"],
]
UNITS = [["accounts"], ["hammer", "64", "3"]]


def run(sanitizer: Sanitizer, command: list[str], environment: dict[str, str]) -> None:
    options = {f"{name}_OPTIONS": sanitizer.options for name in ("ASAN", "UBSAN", "TSAN")}
    words = [f"{name}={value}" for name, value in (environment | options).items()]
    done = subprocess.run(
        [*sanitizer.wrapper, "env", *words, *command],
        input="\n" * 4,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr or done.stdout
    assert "Sanitizer" not in done.stderr
    assert "runtime error" not in done.stderr


@pytest.mark.parametrize("sanitizer", SANITIZERS, ids=lambda sanitizer: sanitizer.name)
def test_nothing_is_found_in_the_library_while_programs_use_it(tenant: Tenant, sanitizer: Sanitizer) -> None:
    tenant.share("one", memory=2 * GIB, cores=50)
    tenant.share("two", memory=GIB)
    environment = tenant.machine.environment(**tenant.preloaded(LD_PRELOAD=sanitizer.preload))
    for name, *words in PROBES:
        run(sanitizer, [str(sanitizer.build / "shim-probes" / name), *words], environment)


@pytest.mark.parametrize("sanitizer", SANITIZERS, ids=lambda sanitizer: sanitizer.name)
def test_nothing_is_found_in_the_accounting_while_processes_are_killed(tmp_path: Path, sanitizer: Sanitizer) -> None:
    for name, *words in UNITS:
        folder = tmp_path / name
        folder.mkdir()
        run(sanitizer, [str(sanitizer.build / "shim-units" / name), str(folder / "share"), *words], {})


@pytest.mark.parametrize("sanitizer", SANITIZERS, ids=lambda sanitizer: sanitizer.name)
def test_a_sanitizer_that_has_something_to_find_finds_it(tmp_path: Path, sanitizer: Sanitizer) -> None:
    """The control: the same flags and options on a program with one fault of each kind."""
    source = tmp_path / "faulty.c"
    source.write_text(FAULTY)
    flag = {"asan": "address", "ubsan": "undefined", "tsan": "thread"}[sanitizer.name]
    program = tmp_path / "faulty"
    command = [
        "gcc",
        "-w",
        "-g",
        "-O0",
        f"-fsanitize={flag}",
        "-fno-sanitize-recover=all",
        "-o",
        str(program),
        str(source),
    ]
    subprocess.run(command, check=True, timeout=60)
    with pytest.raises(AssertionError):
        run(sanitizer, [str(program), sanitizer.name], {})


FAULTY = """
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
static int shared;
static void *count(void *nothing) { for (int i = 0; i < 100000; i++) shared++; return 0; }
int main(int argc, char **argv) {
    if (!strcmp(argv[1], "asan")) { volatile char *p = malloc(4); return p[4] * 0; }
    if (!strcmp(argv[1], "ubsan")) { volatile int most = 2147483647; most += argc; return 0; }
    pthread_t one, two;
    pthread_create(&one, 0, count, 0); pthread_create(&two, 0, count, 0);
    pthread_join(one, 0); pthread_join(two, 0);
    return 0;
}
"""
