"""`make demo`: the main job on this machine, told to somebody who sees DRA for the first time."""
