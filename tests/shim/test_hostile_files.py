"""What a tenant does to the files of his share hurts his share alone."""

import os
import signal
from pathlib import Path

import pytest

from drivers.errors import ShareFileUnusable
from drivers.shim_contract import read_usage
from tests.shim.racing import line_up, reports, start
from tests.shim.tenants import Container
from tests.simgpu import installation

GIB = 1 << 30
MIB = 1 << 20
USAGE_SIZE = 262144


def neighbour(container: Container) -> Container:
    """Another container on the same machine."""
    return Container(container.machine, container.shares.parent / "neighbour")


def test_a_usage_file_cut_off_under_its_users_ends_them_and_nobody_else(container: Container) -> None:
    other = neighbour(container)
    share, others = container.share("one", memory=2 * GIB), other.share("two", memory=2 * GIB)
    victims, bystanders = line_up(container, 1, 1, 2000, GIB), line_up(other, 1, 1, 2000, 64 * MIB)
    os.truncate(share.folder / "usage", 0)
    start(victims + bystanders)
    assert victims[0].wait(20) == -signal.SIGBUS
    assert reports(bystanders)[1] == 0
    assert others.usage("peak_bytes") <= 2 * GIB
    with pytest.raises(ShareFileUnusable):
        read_usage(share.folder / "usage")


def test_a_usage_file_of_a_gigabyte_is_used_and_read_as_far_as_it_means_anything(container: Container) -> None:
    share = container.share("one", memory=2 * GIB)
    os.truncate(share.folder / "usage", GIB)
    assert installation.finish(container.probe("linked_limit")) == f"{2 * GIB} 2"
    assert read_usage(share.folder / "usage").peak_bytes <= 2 * GIB


def fill(path: Path, offset: int, size: int, byte: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(byte * size)


@pytest.mark.parametrize("byte", [b"\x00", b"\x01", b"\xff"])
def test_overwritten_accounts_neither_hang_nor_crash_their_own_programs(container: Container, byte: bytes) -> None:
    share = container.share("one", memory=2 * GIB)
    racers = line_up(container, 2, 2, 500, GIB)
    fill(share.folder / "usage", 96, USAGE_SIZE - 96, byte)  # all but magic, version, geometry and key
    start(racers)
    succeeded, refused = reports(racers)
    assert succeeded + refused > 1000
    # The next process finds the files as they are, and starts or is refused; it does not hang.
    assert container.probe("linked_limit").wait(20) in {0, 2}


def test_a_share_whose_total_was_spoiled_recovers_when_its_files_are_made_anew(container: Container) -> None:
    share = container.share("one", memory=2 * GIB)
    pristine = (share.folder / "usage").read_bytes()
    fill(share.folder / "usage", 96, 8, b"\xff")
    assert container.probe("linked_limit").wait(20) == 2
    (share.folder / "usage").write_bytes(pristine)
    assert installation.finish(container.probe("linked_limit")) == f"{2 * GIB} 2"


@pytest.mark.parametrize("name", ["limits", "usage"])
@pytest.mark.parametrize("size", [0, 1, 4095])
def test_a_truncated_file_is_told_of_once_and_does_not_stop_the_program(
    container: Container, name: str, size: int
) -> None:
    share = container.share("one", memory=2 * GIB)
    os.truncate(share.folder / name, size)
    assert installation.finish(container.probe("linked_limit")) == f"{container.card_bytes} 2"
    assert container.log().count("cannot be used") == 1


@pytest.mark.parametrize("name", ["limits", "usage"])
def test_a_pipe_or_a_folder_in_a_files_place_does_not_hang_the_program(container: Container, name: str) -> None:
    share = container.share("one", memory=2 * GIB)
    for make in (os.mkfifo, os.mkdir):
        path = share.folder / name
        path.unlink()
        make(path)
        assert installation.finish(container.probe("linked_limit")) == f"{container.card_bytes} 2"
        path.rmdir() if path.is_dir() else None
        path.touch()
    assert container.log().count("cannot be used") == 2
