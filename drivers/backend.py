"""What a vendor must be able to do: the one protocol behind which all vendors look alike.

Calls may block on the vendor's library; the caller keeps them off its event loop. Every method may be called
again at any time, after a crash in the middle too: the second call finishes what the first began.
"""

from __future__ import annotations

from typing import Protocol

from drivers.model import Device, Injection, Share


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
