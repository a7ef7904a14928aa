"""The kubectl plugin `kubectl vgpu`: cards, who has them, and why a claim waits. Reads only."""
