"""What is read from the machine is understood in all the forms that machines have."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster import cgroups, debian, mounts
from tests.cluster.errors import MissingPackage, UnsafeFolder
from tests.cluster.paths import LONGEST_FOLDER, local_paths

UNIFIED = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = """\
31 23 0:27 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
32 31 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
33 31 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
34 31 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
"""


@pytest.mark.parametrize(
    ("mountinfo", "expected"),
    [
        (UNIFIED, [("/sys/fs/cgroup", True)]),
        (
            HYBRID,
            [
                ("/sys/fs/cgroup/unified", True),
                ("/sys/fs/cgroup/cpuset", False),
                ("/sys/fs/cgroup/systemd", False),
            ],
        ),
    ],
)
def test_cgroup_hierarchies_of_both_versions_are_found(
    tmp_path: Path, mountinfo: str, expected: list[tuple[str, bool]]
) -> None:
    file = tmp_path / "mountinfo"
    file.write_text(mountinfo)
    assert [(str(one.root), one.unified) for one in cgroups.hierarchies(file)] == expected


def test_mounts_below_a_folder_are_listed_last_first_and_unescaped(tmp_path: Path) -> None:
    file = tmp_path / "mountinfo"
    file.write_text(
        "1 0 0:1 / /var/lib/some rw - tmpfs tmpfs rw\n"
        "2 1 0:2 / /var/lib/some/with\\040space rw - tmpfs tmpfs rw\n"
        "3 1 0:3 / /var/lib/some/last rw - tmpfs tmpfs rw\n"
        "4 0 0:4 / /var/lib/something rw - tmpfs tmpfs rw\n"
    )
    assert mounts.below(Path("/var/lib/some"), file) == [
        Path("/var/lib/some/last"),
        Path("/var/lib/some/with space"),
    ]


def test_missing_program_is_refused_with_the_name_of_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "SYSTEM_PATH", "/nowhere")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingPackage, match="apt-get install iproute2"):
        debian.program("ip")


def test_every_package_that_a_message_names_is_in_the_list() -> None:
    assert set(debian.PROGRAMS.values()) | {"containernetworking-plugins"} <= set(debian.packages())


def test_folder_whose_sockets_would_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsafeFolder, match="unix sockets"):
        local_paths(Path("/", "x" * LONGEST_FOLDER))


def test_folder_is_the_given_one_or_the_variable_s_or_the_default() -> None:
    assert local_paths(Path("/a"), {"HAMI_DRA_CLUSTER_DIR": "/b"}).folder == Path("/a")
    assert local_paths(None, {"HAMI_DRA_CLUSTER_DIR": "/b"}).folder == Path("/b")
    assert local_paths(None, {}).folder == Path("/var/lib/hami-dra-cluster")
