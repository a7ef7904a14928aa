"""Tells a share's limits in words: an environment variable for people, and for the shim where it has no file.

Where the file and the variable disagree, the shim goes by the file.
"""

from __future__ import annotations

import re

from drivers.shim_limits import Limits

PREFIX = "VGPU_SHARE_"


def environment_name(share_key: str) -> str:
    """Return the variable's name: `VGPU_SHARE_` and the key in capitals, all else than A-Z and 0-9 as `_`."""
    return PREFIX + re.sub(r"[^A-Z0-9]", "_", share_key.upper())


def environment_value(limits: Limits) -> str:
    """Return the variable's value: memory and swap in bytes, cores in percent (0: no cap)."""
    words: dict[str, object] = {
        "uuid": limits.device_uuid,
        "memory": limits.memory_guaranteed_bytes,
        "cores": limits.cores_guaranteed,
        "policy": limits.compute_policy.value,
        "priority": limits.priority.value,
    }
    if limits.oversubscribe:
        words["swap"] = limits.swap_bytes
    return ",".join(f"{name}={value}" for name, value in words.items())
