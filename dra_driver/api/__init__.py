"""The configuration that users write into claims and classes."""
