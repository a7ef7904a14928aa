"""Containers that are stricter than a test's own surroundings.

A mount namespace with the share's files where the node mounts them, without whatever else a pod's settings take away.
Everything happens in a namespace of its own, so nothing of the machine changes; that needs root.
"""

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.shim.tenants import BUILD, Container

NOBODY = 65534
# Under tmpfs mounts of the namespace: no folder of the test need be open to the container's user.
SET_UP = """
set -e
mount -t tmpfs none /mnt
mount -t tmpfs none /run
mkdir -p /mnt/machine /mnt/build /mnt/log /run/vgpu/shares
chmod 1777 /mnt/log
mount --bind {machine} /mnt/machine
mount --bind {build} /mnt/build
for share in {shares}/*/; do
  [ -d $share ] || continue
  place=/run/vgpu/shares/$(basename $share)
  mkdir $place
  touch $place/limits $place/usage
  mount --bind $share/limits $place/limits
  mount -o remount,bind,ro $place/limits
  mount --bind $share/usage $place/usage
done
"""
NO_RIGHTS = [
    "setpriv",
    f"--reuid={NOBODY}",
    f"--regid={NOBODY}",
    "--clear-groups",
    "--bounding-set=-all",
    "--inh-caps=-all",
    "--no-new-privs",
]


@dataclass(frozen=True)
class Place:
    """A place for a container's programs: more set-up steps (shell), and words to put before a program."""

    container: Container
    steps: tuple[str, ...] = ()
    wrapper: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Runs a program to its end, with the shim; `/mnt/build` is the build, `/mnt/log/log` the shim's log."""
        variables = {
            "LD_PRELOAD": "/mnt/build/libvgpu.so",
            **self.container.machine.environment_at("/mnt/machine"),
            "VGPU_LOG_LEVEL": "info",
            **self.environment,
        }
        words = [f"{name}={value}" for name, value in variables.items()]
        set_up = SET_UP.format(machine=self.container.machine.root, build=BUILD, shares=self.container.shares)
        script = "\n".join([set_up, *self.steps, 'exec "$@"'])
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, "sh", *self.wrapper, "env", "-i", *words, *command],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def open_to_all(folder: Path) -> None:
    """As the node plugin leaves a share's usage file: containers run as any user."""
    for path in folder.glob("*/usage"):
        path.chmod(0o666)


def can_be_made() -> bool:
    """True if this process may make mount namespaces."""
    return os.geteuid() == 0
