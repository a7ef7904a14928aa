"""Figures beside targets: what `make bench` and its kin measure. Nothing here passes or fails."""
