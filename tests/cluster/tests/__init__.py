"""The tests of the local cluster itself."""
