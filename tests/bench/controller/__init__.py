"""The controller measured on a real API server, with simulated nodes and claims."""
