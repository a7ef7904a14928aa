"""Accelerators as one model: what a card is, what a share of it is, and one package per vendor.

A leaf: knows no Kubernetes, no CDI and no gRPC, so that a vendor's part can be read and tested alone.
"""
