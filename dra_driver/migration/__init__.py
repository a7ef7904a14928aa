"""From HAMi's resource names to claims: a pure mapping, the same in admission and in `kubectl vgpu convert`."""
