"""The profile `strict`: our own rules on any board, those of the rewards, which say undecided where they are."""

from __future__ import annotations

from seethink.evals.board import Profile

STRICT = Profile(read=lambda sample, text: None, score=lambda pairs: [None] * len(pairs))
