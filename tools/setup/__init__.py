"""Set-up of a machine for this project, from Python's standard library alone.

It runs before anything is installed, with the machine's own Python, so it may import nothing else.
`python3 -m tools.setup` does all steps; each is quick when there is nothing left to do.
"""
