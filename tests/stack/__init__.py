"""Everything together on one machine: a Kubernetes node, cards (simulated where there are none), our driver."""
