"""What a vendor must be able to do: the one protocol behind which all vendors look alike.

Calls may block on the vendor's library; the caller keeps them off its event loop. Every method may be called
again at any time, after a crash in the middle too: the second call finishes what the first began.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from drivers.model import Device, Injection, Share


@dataclass(frozen=True)
class Fault:
    """Something befell a card that makes it unfit for new work, until it recovers or stays quiet for long enough.

    `code` is one word, as in Device.unhealthy_code; `reason` is for people. `seconds_ago` is more than 0 for what was
    found out only later.
    """

    device_uuid: str
    code: str
    reason: str
    seconds_ago: float = 0.0


@dataclass(frozen=True)
class Recovery:
    """A card works again: what befell it before is over."""

    device_uuid: str


Notice = Fault | Recovery


@runtime_checkable
class WatchesHealth(Protocol):
    """What a backend may be able to do beside DeviceBackend: notice faults as they happen.

    What a card's state tells (lost, in need of a reset) is said by `discover`; a watch is for what leaves no state
    behind, and for hearing of a change before the next look.
    """

    def watch_health(self, tell: Callable[[Notice], None], stopped: Callable[[], bool]) -> None:
        """Tell what happens, until `stopped` says so; it is asked at least every 2 seconds.

        Blocks, in a thread of its own. A library that does not answer is waited for. `tell` does not block and
        does not raise.
        """
        ...


@runtime_checkable
class OutlivesReboot(Protocol):
    """What a backend must say beside DeviceBackend if `prepare` makes what is still there after a reboot.

    Files of the vendor's on the host and partitions that a card remembers are such things. What was made has a record
    on the disk before it is made then, so that a power cut leaves nothing that nobody takes back.
    """

    @property
    def outlives_reboot(self) -> bool:
        """Tell whether it is so with this node's cards."""
        ...


class DeviceBackend(Protocol):
    """One vendor's cards on this node."""

    @property
    def vendor(self) -> str:
        """The vendor's name as in the `vendor` attribute, a DNS label."""
        ...

    def discover(self) -> tuple[Device, ...]:
        """Tell the cards of this node as they are now, in the order in which they should be filled.

        A card that was seen before and does not answer now is told with its last known description and
        the reason in `unhealthy`; the others are not disturbed.

        Raises:
            BackendUnavailable: the library or the driver is absent, or no card could be given to a container.
        """
        ...

    def prepare(self, share: Share) -> Injection:
        """Make the share usable on its card, and tell what its container needs. Idempotent.

        Raises:
            DeviceNotFound, DeviceLost: the card is gone or does not answer.
            ShareRefused: the card cannot hold such a share.
            RuntimeNotReady: the vendor's own CDI device for the card is missing.
        """
        ...

    def unprepare(self, share_key: str, device_uuid: str) -> None:
        """Undo `prepare`. A share that is unknown, or was undone before, is a success."""
        ...

    def close(self) -> None:
        """Let go of the vendor's library."""
        ...
