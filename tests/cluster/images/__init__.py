"""Container images without a registry: built here from files, imported straight into containerd."""
