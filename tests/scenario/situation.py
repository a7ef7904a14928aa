"""The claims that most scenarios are about, and the mark that a tenant leaves in his accounting."""

from __future__ import annotations

from tests.support.claims import allocated, share, whole_device
from tests.support.node import MemoryNode

TRAIN = allocated("train", share("gpu", "gpu-0", memory="4Gi", cores="30", share_id="t1"))
PAIR = allocated(
    "pair",
    share("a", "gpu-0", memory="4Gi", cores="30", share_id="p1"),
    share("b", "gpu-0", memory="8Gi", cores="60", share_id="p2"),
)
WHOLE = allocated("whole", whole_device("gpu", "gpu-1"))
TENANTS_WORDS = b"words of the tenant"


def spoil_usage(node: MemoryNode, key: str) -> None:
    """Write into a share's accounting as its container may."""
    with node.usage(key).open("r+b") as usage:
        usage.write(TENANTS_WORDS)


def is_spoilt(node: MemoryNode, key: str) -> bool:
    """Tell whether the accounting is still the one that was written into."""
    return node.usage(key).read_bytes().startswith(TENANTS_WORDS)
