"""The controller: claims that explain themselves, admission, migration, and what Kubernetes leaves behind."""
