"""CDI specs as JSON: what a container gets for a share, exactly."""

from __future__ import annotations

from dra_driver.cdi.render import ShareEdits, ShimFiles, share_device_ids, share_spec, shim_spec
from drivers.model import DeviceNode, Injection, Mount

DRIVER = "vgpu.hami.io"
SHIM = ShimFiles("0011223344556677", "/host/lib/0011/libvgpu.so", "/host/lib/0011/ld.so.preload")
LIMITED = Injection(
    vendor_cdi_devices=("nvidia.com/gpu=GPU-1",),
    environment=(("NVIDIA_VISIBLE_DEVICES", "void"),),
    shim=True,
)


def edits(key: str, words: str) -> ShareEdits:
    return ShareEdits(key, LIMITED, f"/host/shares/{key}", ((f"VGPU_SHARE_{key.upper()}", words),))


def test_a_share_is_its_limits_its_accounting_and_its_words() -> None:
    assert share_spec(DRIVER, [edits("k1", "memory=4294967296")]).to_json() == {
        "cdiVersion": "0.6.0",
        "kind": "vgpu.hami.io/share",
        "devices": [
            {
                "name": "k1",
                "containerEdits": {
                    "env": ["NVIDIA_VISIBLE_DEVICES=void", "VGPU_SHARE_K1=memory=4294967296"],
                    "mounts": [
                        {
                            "hostPath": "/host/shares/k1/limits",
                            "containerPath": "/run/vgpu/shares/k1/limits",
                            "options": ["ro", "nosuid", "nodev", "bind"],
                        },
                        {
                            "hostPath": "/host/shares/k1/usage",
                            "containerPath": "/run/vgpu/shares/k1/usage",
                            "options": ["rw", "nosuid", "nodev", "bind"],
                        },
                    ],
                },
            }
        ],
    }


def test_the_shim_is_the_library_and_its_preload() -> None:
    assert shim_spec(DRIVER, SHIM).to_json() == {
        "cdiVersion": "0.6.0",
        "kind": "vgpu.hami.io/shim",
        "devices": [
            {
                "name": "0011223344556677",
                "containerEdits": {
                    "mounts": [
                        {
                            "hostPath": "/host/lib/0011/libvgpu.so",
                            "containerPath": "/usr/local/vgpu/libvgpu.so",
                            "options": ["ro", "nosuid", "nodev", "bind"],
                        },
                        {
                            "hostPath": "/host/lib/0011/ld.so.preload",
                            "containerPath": "/etc/ld.so.preload",
                            "options": ["ro", "nosuid", "nodev", "bind"],
                        },
                    ]
                },
            }
        ],
    }


def test_every_share_of_a_claim_has_a_device_with_nothing_of_the_others() -> None:
    first, second = share_spec(DRIVER, [edits("k1", "memory=1"), edits("k2", "memory=2")]).to_json()["devices"]
    assert (first["name"], second["name"]) == ("k1", "k2")
    assert "k2" not in str(first).lower()
    assert "k1" not in str(second).lower()


def test_a_container_gets_the_vendors_device_first_and_its_share_last() -> None:
    assert share_device_ids(DRIVER, edits("k1", ""), SHIM) == (
        "nvidia.com/gpu=GPU-1",
        "vgpu.hami.io/shim=0011223344556677",
        "vgpu.hami.io/share=k1",
    )


def test_a_share_that_hardware_limits_has_no_shim_and_no_directory() -> None:
    injection = Injection(
        environment=(("ASCEND_VISIBLE_DEVICES", "0"),),
        mounts=(Mount("/usr/local/driver", "/usr/local/driver"), Mount("/var/log/npu", "/log", read_only=False)),
        device_nodes=(DeviceNode("/dev/davinci0", "/dev/vdavinci100"), DeviceNode("/dev/hisi_hdc")),
    )
    share = ShareEdits("k1", injection)
    assert share_device_ids(DRIVER, share, SHIM) == ("vgpu.hami.io/share=k1",)
    (device,) = share_spec(DRIVER, [share]).to_json()["devices"]
    assert device["containerEdits"] == {
        "env": ["ASCEND_VISIBLE_DEVICES=0"],
        "deviceNodes": [
            {"path": "/dev/davinci0", "hostPath": "/dev/vdavinci100"},
            {"path": "/dev/hisi_hdc", "hostPath": "/dev/hisi_hdc"},
        ],
        "mounts": [
            {
                "hostPath": "/usr/local/driver",
                "containerPath": "/usr/local/driver",
                "options": ["ro", "nosuid", "nodev", "bind"],
            },
            {"hostPath": "/var/log/npu", "containerPath": "/log", "options": ["rw", "nosuid", "nodev", "bind"]},
        ],
    }


def test_the_same_shares_make_the_same_spec() -> None:
    shares = [edits("k1", "memory=1"), edits("k2", "memory=2")]
    assert share_spec(DRIVER, shares).to_json() == share_spec(DRIVER, shares).to_json()
