"""Container images without a container engine: layers from Debian packages and Python wheels, written as OCI archives.

`python -m tools.image` builds the two images of the project. The tests' own images use the same parts.
"""
