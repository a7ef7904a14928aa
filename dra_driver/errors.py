"""The errors of the Kubernetes side, in one tree.

    HamiDraError
    ├── SettingsRejected        a flag or an environment variable makes no sense
    ├── ObjectRejected          an API object has a field that we cannot accept
    │   └── ConfigRejected      … in the opaque parameters (VgpuConfig)
    ├── ClaimNotReady           the claim exists but is not what the kubelet asked for (yet)
    ├── OverCommitted           a card would be promised beyond what it has
    ├── CheckpointUnreadable    the record of prepared claims is damaged
    ├── ShimMissing             the library that enforces limits is not there to be installed
    ├── NodeInUse               a node is to be cleaned that is not done with the driver
    ├── DriverInUse             the driver is to be taken away while claims hold its devices
    ├── NotLeading              another replica may hold the Lease by now (dra_driver.controller.lease)
    ├── KindNotServed           Kubernetes lacks what the controller watches (dra_driver.controller.serving)
    └── KubeError               the API server said no, or nothing (dra_driver.kube.errors)

Every error names the object and, where there is one, the field. `retriable` tells whether the same call
can succeed later with nothing changed by the user. The edges (gRPC, events, exit codes) translate; nobody
else does.
"""


class HamiDraError(Exception):
    """Base of the tree."""

    retriable = False


class SettingsRejected(HamiDraError):
    """A setting that makes no sense; the message names it and says what would."""


class ObjectRejected(HamiDraError):
    """A field of an API object cannot be accepted.

    Args:
        subject: the object in words, e.g. `ResourceClaim team-a/train`.
        path: the field, e.g. `status.allocation.devices.results[0].device`.
        problem: what is wrong with it, and what would be right.
    """

    def __init__(self, subject: str, path: str, problem: str) -> None:
        super().__init__(f"{subject}: {path}: {problem}")
        self.subject = subject
        self.path = path
        self.problem = problem


class ConfigRejected(ObjectRejected):
    """Opaque parameters that are not a valid VgpuConfig."""


class ClaimNotReady(HamiDraError):
    """The claim was replaced, has no allocation, or holds nothing of this driver."""

    retriable = True


class OverCommitted(HamiDraError):
    """The shares that are prepared leave too little of the card. Retriable: they may go."""

    retriable = True


class CheckpointUnreadable(HamiDraError):
    """The checkpoint file is damaged or of an unknown version."""


class ShimMissing(HamiDraError):
    """libvgpu.so is not where the settings say."""


class NodeInUse(HamiDraError):
    """A node plugin lives on the node, or its record has prepared claims."""


class DriverInUse(HamiDraError):
    """Claims of the cluster hold devices of the driver."""
