"""First working form of the mixed reward; the ladder and the parsers follow."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal, Protocol

from pydantic import Field

from seethink.core.config import Config
from seethink.core.tags import extract
from seethink.core.types import Reward, Sample


class RewardConfig(Config):
    """What a reward depends on besides sample and response."""

    tags: Literal["strict", "prefilled", "lenient"] = Field("strict", description="extraction mode")
    box_correct: float = Field(0.5, description="IoU from which a box answer counts as correct")
    open_correct: float = Field(0.8, description="open reward from which an answer counts as correct")
    open_mode: Literal["vlaa", "shifted", "sigmoid", "calibrated", "plain"] = Field("vlaa", description="formula")
    beta: float = Field(0.2, description="steepness of the open reward")


class Scorer(Protocol):
    def score_batch(self, items: Sequence[object]) -> list[float | None]: ...


def score(sample: Sample, response: str, config: RewardConfig = RewardConfig(), scorer: Scorer | None = None) -> Reward:  # noqa: B008
    start = time.perf_counter()
    parsed = extract(response, config.tags)
    if parsed.answer is None:
        return Reward(0.0, parsed.status, sample.kind, seconds=time.perf_counter() - start)
    value, status = _KINDS[sample.kind](sample, parsed.answer)
    return Reward(value, status, sample.kind, parsed.answer, seconds=time.perf_counter() - start)


def score_batch(
    samples: Sequence[Sample],
    responses: Sequence[str],
    config: RewardConfig = RewardConfig(),  # noqa: B008
    scorer: Scorer | None = None,
) -> list[Reward]:
    return [score(s, r, config, scorer) for s, r in zip(samples, responses, strict=True)]


def is_correct(reward: Reward, config: RewardConfig = RewardConfig()) -> bool | None:  # noqa: B008
    if reward.value is None:
        return None
    return reward.value >= {"box": config.box_correct, "open": config.open_correct}.get(reward.kind, 1.0)


def _number(text: str) -> Fraction | None:
    m = re.fullmatch(r"\s*([+-]?\d{1,50}(?:\.\d{1,50})?)(?:/(\d{1,50}))?\s*", text, re.ASCII)
    return Fraction(m[1]) / int(m[2] or 1) if m and (m[2] is None or int(m[2])) else None


def _digit(sample: Sample, answer: str) -> tuple[float | None, str]:
    gold, found = _number(sample.gold), {_number(n) for n in re.findall(r"[+-]?\d+(?:\.\d+)?", answer[:2000], re.ASCII)}
    if gold is None:
        return None, "gold_error"
    return (float(found == {gold}), "ok") if len(found) < 2 else (0.0, "ambiguous")


def _choice(sample: Sample, answer: str) -> tuple[float | None, str]:
    gold = set(re.findall(r"\b[A-Z]\b", sample.gold.strip().strip("().").upper())[:1])
    bare = answer.strip().strip("().:*")
    found = {bare.upper()} if len(bare) == 1 else set(re.findall(r"\b[B-HJ-Z]\b|\(A\)|\bA[.:)]|\bA$", answer[:2000]))
    return float(bool(gold) and {f.strip("().:") for f in found} == gold), "ok"


def _math(sample: Sample, answer: str) -> tuple[float | None, str]:
    def squeeze(text: str) -> str:
        return re.sub(r"\s|\\left|\\right|\$", "", text.replace("−", "-"))

    a, g = _number(squeeze(answer)), _number(squeeze(sample.gold))
    return float(a == g if a is not None and g is not None else squeeze(answer) == squeeze(sample.gold)), "ok"


def _box(sample: Sample, answer: str) -> tuple[float | None, str]:
    try:
        gold = json.loads(sample.gold)
    except json.JSONDecodeError:
        return None, "gold_error"
    found = re.findall(r"-?(?:\d+\.\d+|\d+|\.\d+)", answer[:2000].replace("bbox_2d", ""), re.ASCII)
    if len(found) != 4:
        return 0.0, "malformed"
    ax, ay, bx, by = (float(n) for n in found)
    gx, gy, hx, hy = gold
    if bx <= ax or by <= ay:
        return 0.0, "malformed"
    inter = max(0.0, min(bx, hx) - max(ax, gx)) * max(0.0, min(by, hy) - max(ay, gy))
    return inter / ((bx - ax) * (by - ay) + (hx - gx) * (hy - gy) - inter), "ok"


def _open(sample: Sample, answer: str) -> tuple[float | None, str]:
    a, g = Counter(re.findall(r"\w+", answer.lower())), Counter(re.findall(r"\w+", sample.gold.lower()))
    same = sum((a & g).values())
    return (2 * same / (sum(a.values()) + sum(g.values())) if same else 0.0), "ok"


_KINDS = {"digit": _digit, "choice": _choice, "math": _math, "box": _box, "open": _open}
