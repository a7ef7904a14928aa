"""A real Kubernetes node on a bare machine, for tests and the demo.

    from tests.cluster import Cluster
    cluster = Cluster.up()
    cluster.kubectl("get", "nodes")

`python -m tests.cluster` is the same for people.
"""

from tests.cluster.cluster import Cluster
from tests.cluster.errors import ClusterError, CommandFailed, NotSupported
from tests.cluster.launching import Options
from tests.cluster.paths import ClusterPaths
from tests.cluster.progress import Progress, Silent

__all__ = [
    "Cluster",
    "ClusterError",
    "ClusterPaths",
    "CommandFailed",
    "NotSupported",
    "Options",
    "Progress",
    "Silent",
]
