"""What each kind says about an answer as a model wrote it: normalised first, as the rewarder does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seethink.rewards import box as boxes
from seethink.rewards import choice as letters
from seethink.rewards import digit as counts
from seethink.rewards.config import BoxConfig
from seethink.rewards.decision import Decision
from seethink.rewards.maths import decide as maths
from seethink.rewards.text import normalise


def digit(gold: str, answer: str) -> Decision:
    return counts.digit(gold, normalise(answer))


def choice(gold: str, answer: str, options: Mapping[str, str]) -> Decision:
    return letters.choice(gold, normalise(answer), options)


def box(gold: str, answer: str, meta: dict[str, Any]) -> Decision:
    return boxes.box(gold, answer, meta, BoxConfig())


def decide(gold: str, answer: str) -> Decision | None:
    return maths.decide(gold, normalise(answer))
