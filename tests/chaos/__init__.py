"""Heavy faults on a cluster of its own: what is broken here for minutes, others must not be using."""
