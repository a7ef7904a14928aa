"""In-memory twins of what the driver talks to, so that its behaviour can be tested whole and without a cluster."""
