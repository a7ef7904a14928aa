"""What the shim costs and how well it holds compute, on the simulated card; bare driver and shim side by side."""

import sys
from pathlib import Path

# The simulator's modules lie side by side and are not installed; under pytest its settings do this.
sys.path.append(str(Path(__file__).resolve().parents[3] / "native" / "simgpu"))
