"""Our specs, read by the very code that containerd reads them with (tests/cluster/tools/cdicheck)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dra_driver.cdi.render import ShareEdits, ShimFiles, share_spec, shim_spec
from dra_driver.cdi.spec import Spec
from dra_driver.cdi.store import CdiStore
from drivers.model import DeviceNode, Injection, Mount
from tests.cluster import toolchain
from tests.cluster.progress import Progress

DRIVER = "vgpu.hami.io"


@pytest.fixture(scope="session")
def cdicheck() -> Path:
    """The checker, built with the cluster's programs where that has not been done yet."""
    program = toolchain.ensure(Progress()) / "cdicheck"
    assert program.is_file(), f"{program} is missing: remove its folder, and it is built again"
    return program


def check(program: Path, *specs: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *specs], capture_output=True, text=True, timeout=60, check=False)


def shim() -> Spec:
    return shim_spec(DRIVER, ShimFiles("0011223344556677", "/host/lib/libvgpu.so", "/host/lib/ld.so.preload"))


def shares() -> Spec:
    limited = Injection(("nvidia.com/gpu=GPU-1",), (("NVIDIA_VISIBLE_DEVICES", "void"),), shim=True)
    hard = Injection(
        environment=(("A", "b=c,d"),),
        mounts=(Mount("/usr/local/driver", "/usr/local/driver"),),
        device_nodes=(DeviceNode("/dev/davinci0"),),
    )
    return share_spec(
        DRIVER,
        [
            ShareEdits("0a" * 16, limited, "/host/shares/0a", (("VGPU_SHARE_0A", "uuid=GPU-1,memory=1"),)),
            ShareEdits("1b" * 16, hard),
        ],
    )


def test_containerd_accepts_every_kind_of_spec_that_we_write(cdicheck: Path, tmp_path: Path) -> None:
    store = CdiStore(tmp_path, driver=DRIVER)
    store.write("shim-0011223344556677", shim())
    store.write("claim-6b0b3f0e-4c1e-4a4e-9a57-5c1d2b1f0a11", shares())
    outcome = check(cdicheck, *sorted(tmp_path.glob("*.json")))
    assert outcome.returncode == 0, outcome.stderr
    lines = sorted(line.partition(": ")[2] for line in outcome.stdout.splitlines())
    assert lines == ["vgpu.hami.io/share, 2 devices", "vgpu.hami.io/shim, 1 devices"]


def _unknown_field(spec: dict[str, Any]) -> None:
    spec["devices"][0]["containerEdits"]["mount"] = []


def _no_edits(spec: dict[str, Any]) -> None:
    spec["devices"][0]["containerEdits"] = {}


def _bad_name(spec: dict[str, Any]) -> None:
    spec["devices"][0]["name"] = "no spaces"


def _bad_kind(spec: dict[str, Any]) -> None:
    spec["kind"] = "share"


def _bad_variable(spec: dict[str, Any]) -> None:
    spec["devices"][0]["containerEdits"]["env"] = ["no-equals-sign"]


@pytest.mark.parametrize("spoil", [_unknown_field, _no_edits, _bad_name, _bad_kind, _bad_variable])
def test_containerd_refuses_a_spoiled_spec(cdicheck: Path, tmp_path: Path, spoil: Any) -> None:
    spec = shares().to_json()
    spoil(spec)
    path = tmp_path / "spoiled.json"
    path.write_text(json.dumps(spec))
    outcome = check(cdicheck, path)
    assert outcome.returncode == 1
    assert "refused" in outcome.stderr
