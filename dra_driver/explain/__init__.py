"""Why a claim does or does not get cards: the scheduler's decision, worked out from facts, and never a guess."""
