"""What the node and the shim agree on, under one name: the rest of the project imports it from here.

The parts: `shim_limits` (what the node grants), `shim_usage` (what the container reports back), and
`shim_words` (the same grant in words, for people and for containers without a share directory).
"""

from __future__ import annotations

from drivers.shim_abi import USAGE_SIZE
from drivers.shim_limits import (
    Limits,
    fill_spare_limits,
    make_spare_limits,
    read_limits,
    share_limits,
    write_limits,
)
from drivers.shim_usage import ProcessUsage, Usage, create_usage, fill_spare_usage, read_usage
from drivers.shim_words import environment_name, environment_value

__all__ = [
    "USAGE_SIZE",
    "Limits",
    "ProcessUsage",
    "Usage",
    "create_usage",
    "environment_name",
    "environment_value",
    "fill_spare_limits",
    "fill_spare_usage",
    "make_spare_limits",
    "read_limits",
    "read_usage",
    "share_limits",
    "write_limits",
]
