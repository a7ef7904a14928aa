"""What the suite needs of a vendor, beside its backend: a machine to run it on, and ways to break that machine."""

from __future__ import annotations

from typing import Protocol

from tests.contract.backend_process import BackendProcess


class Rig(Protocol):
    """A machine with at least two healthy cards of one vendor, simulated at the vendor library's interface."""

    def open(self) -> BackendProcess:
        """Start the backend. May be called several times, as after a restart of the plugin."""
        ...

    def open_without_library(self) -> BackendProcess:
        """Start the backend where the vendor's library is not installed."""
        ...

    def lose(self, uuid: str) -> None:
        """Let a card fall off the bus."""
        ...

    def restore(self, uuid: str) -> None:
        """Bring a lost card back."""
        ...

    def unload_driver(self) -> None:
        """Let the vendor's library answer once more that its driver is gone, then work again."""
        ...

    def hide_from_runtime(self, uuid: str) -> None:
        """Take away what the container runtime needs to inject this card."""
        ...

    def remove_runtime(self) -> None:
        """Take away what the container runtime needs to inject any card."""
        ...

    def repair_runtime(self) -> None:
        """Give back what `hide_from_runtime` and `remove_runtime` took."""
        ...

    def log(self) -> str:
        """What the backends have logged so far."""
        ...

    def end(self) -> None:
        """End all backends."""
        ...
