"""XID errors in the kernel's log, as the driver writes them and as others try to."""

from __future__ import annotations

import os
from pathlib import Path

from structlog.testing import capture_logs

from drivers.nvidia.kernel_log import LoggedXid, logged_xids

FELL_OFF = "NVRM: Xid (PCI:0000:3B:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
LOG = f"""\
6,100,5000000,-;usb 1-1: new device
 SUBSYSTEM=usb
4,101,6500000,-;{FELL_OFF}
4,102,7000000,c;NVRM: Xid (PCI:0000:3b:00): 154, GPU recovery action changed from 0x0 (None) to 0x2
4,103,8000000,-,caller=T1;NVRM: Xid (PCI:00000001:af:00.0): 48, pid=7, name=python, Ch 00000008
4,104,8000001,-;NVRM: loading NVIDIA UNIX x86_64 Kernel Module
"""


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "kmsg"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_every_xid_is_told_with_the_card_s_address_and_its_time(tmp_path: Path) -> None:
    assert logged_xids(written(tmp_path, LOG)) == (
        LoggedXid("0000:3b:00.0", 79, 6.5),
        LoggedXid("0000:3b:00.0", 154, 7.0),
        LoggedXid("0001:af:00.0", 48, 8.0),
    )


def test_who_writes_to_the_log_from_outside_the_kernel_is_not_believed(tmp_path: Path) -> None:
    # Facility 1, which the kernel gives to everybody else's lines.
    assert logged_xids(written(tmp_path, f"12,101,6500000,-;{FELL_OFF}\n")) == ()


def test_a_line_that_only_mentions_an_xid_is_none(tmp_path: Path) -> None:
    lines = (
        f"4,101,6500000,-;somebody said: {FELL_OFF}",
        "4,101,6500000,-;NVRM: Xid (PCI:0000:3B:00): many",
        "4,101,6500000,-;NVRM: Xid (PCI:zz): 79, pid=1",
        f"4,101,6500000 {FELL_OFF}",
        f" {FELL_OFF}",
    )
    assert logged_xids(written(tmp_path, "\n".join(lines))) == ()


def test_bytes_that_are_no_text_hide_nothing_else(tmp_path: Path) -> None:
    assert len(logged_xids(written(tmp_path, b"4,1,2,-;\xff\xfe\n" + LOG.encode()))) == 3


def test_a_log_that_cannot_be_read_is_said_and_tells_nothing(tmp_path: Path) -> None:
    with capture_logs() as logs:
        assert logged_xids(tmp_path / "kmsg") == ()
    assert [entry["event"] for entry in logs] == ["kernel_log_not_read"]


def test_a_log_that_is_still_written_is_not_waited_for(tmp_path: Path) -> None:
    """As /dev/kmsg: whoever has read all that there is would wait for more."""
    pipe = tmp_path / "kmsg"
    os.mkfifo(pipe)
    both = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    try:
        os.write(both, LOG.encode())
        assert len(logged_xids(pipe)) == 3
    finally:
        os.close(both)
