"""Addresses to listen on, as settings name them: `host:port`, `[host]:port`, or `:port` for all addresses."""

from __future__ import annotations


def split_address(text: str) -> tuple[str, int]:
    """Take `host:port` apart; no host means all addresses. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    number = int(port)
    if not colon or not 0 <= number <= 65535:
        raise ValueError(text)
    return host.removeprefix("[").removesuffix("]"), number


def is_address(text: str) -> bool:
    """Tell whether it can be listened on; the empty text too, which stands for not listening."""
    try:
        split_address(text or ":0")
    except ValueError:
        return False
    return True
