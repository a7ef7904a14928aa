"""The main job on a real node: real scheduler, kubelet and container runtime, our driver, real clients."""
