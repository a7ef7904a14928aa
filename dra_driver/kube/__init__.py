"""The only place that talks to the API server, and the values that its objects become."""
