"""What can go wrong between us and a vendor's library, in one tree.

    DriverError
    ├── BackendUnavailable      nothing of the vendor can be used now (no library, no driver)
    │   └── RuntimeNotReady     cards answer, but a container could not be given one (no vendor CDI spec)
    ├── DeviceNotFound          a card that was named is not on this node
    ├── DeviceLost              a card is known but does not answer
    ├── ShareRefused            a share that a card cannot hold, or that is malformed
    └── ShareFileUnusable       a share's `limits` or `usage` file breaks the contract with the shim

`retriable` tells whether the same call can succeed later with nothing changed on our side.
"""


class DriverError(Exception):
    """Base of all errors that a backend raises."""

    retriable = True


class BackendUnavailable(DriverError):
    """The vendor's library or driver is absent or does not answer."""


class RuntimeNotReady(BackendUnavailable):
    """The cards answer, but the container runtime could not be told how to inject them."""


class DeviceNotFound(DriverError):
    """A card named by UUID or device name is not on this node."""


class DeviceLost(DriverError):
    """A card fell off the bus or needs a reset."""


class ShareRefused(DriverError):
    """A share that the card cannot hold, or whose settings contradict each other."""

    retriable = False


class ShareFileUnusable(DriverError):
    """A share's `limits` or `usage` file breaks the contract; `field` names the part that does."""

    retriable = False

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field = field
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}"
