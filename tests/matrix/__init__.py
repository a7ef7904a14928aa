"""The driver on older Kubernetes: the same tests on a cluster of each version, and what is different there."""
