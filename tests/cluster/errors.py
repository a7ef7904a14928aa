"""What can go wrong with the local cluster, as one tree, so that callers can tell the cases apart.

ClusterError
├── MissingPackage      a Debian package is not installed
├── ToolchainError      the Kubernetes programs could not be built
├── ImageError          an image could not be built or imported
├── CommandFailed       an external command ended badly
├── ComponentFailed     a component died or did not get ready; carries the tail of its log
├── UnsafeFolder        the folder is not ours to fill or to delete
└── NotSupported        the operation makes no sense on an existing cluster
"""

from __future__ import annotations

from collections.abc import Sequence


class ClusterError(Exception):
    """Base of every error that this package raises on purpose."""


class MissingPackage(ClusterError):
    """A program from Debian is absent; the message names the package that brings it."""


class ToolchainError(ClusterError):
    """Go is missing or too old, or the build failed."""


class ImageError(ClusterError):
    """An image could not be put together."""


class UnsafeFolder(ClusterError):
    """The cluster's folder holds something that this package did not write, or its path does not fit."""


class NotSupported(ClusterError):
    """The operation needs control of the cluster's processes; tests turn this into a skip with a reason."""


class CommandFailed(ClusterError):
    """An external command ended with a status other than 0.

    `status` is its exit status, `output` and `errors` what it wrote.
    """

    def __init__(self, argv: Sequence[str], status: int, output: str, errors: str) -> None:
        super().__init__(f"{' '.join(argv)} ended with {status}: {errors.strip() or output.strip()}")
        self.argv = tuple(argv)
        self.status = status
        self.output = output
        self.errors = errors


class ComponentFailed(ClusterError):
    """A component of the cluster died, or was not ready in time."""

    def __init__(self, name: str, reason: str, log_tail: str) -> None:
        super().__init__(f"{name} {reason}\n--- the end of its log ---\n{log_tail}")
        self.name = name
