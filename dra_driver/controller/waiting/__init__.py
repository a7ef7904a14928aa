"""Claims that wait, and why: found out, told on the claim and to its pod, and taken back when the wait ends."""
