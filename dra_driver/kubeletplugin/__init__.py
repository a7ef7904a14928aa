"""The node plugin: publishes the node's cards, and makes allocated claims usable by containers."""
