"""Alarms in words: what the numbers of a run mean when something goes wrong. Pure functions of the metrics so far.

What can be said of a single round is said at once; what may be chance waits for WINDOW rounds. docs/alarms.md lists them.
"""

from __future__ import annotations

import math
from statistics import fmean, median
from typing import Any

from seethink.core.run import Run, read_log

WINDOW = 5  # rounds that must agree before we say what one round may show by chance

NOTHING = (
    ("reward/mean", 0, "every reward was 0"),
    ("reward/mean", None, "no reward was decided"),
    ("groups/zero_spread", 1, "no group had a spread of rewards"),
    ("tokens/trained", 0, "no token was trained"),
    ("tokens", 0, "no token was trained"),
    ("loss", None, "no loss was finite"),
    ("grad_norm", None, "no gradient was finite"),
)
"""(metric, its value, what it means): where it holds in every row, nothing is learned. Not finite is logged as null."""
OF_REWARDS = ("reward/mean", "groups/zero_spread", "tokens/trained")
"""Those that demonstrations and a teacher do without."""


def raise_new(folder: Run, found: dict[str, str], step: int | None) -> None:
    """Record alarms this run has not raised yet."""
    known = {a["alarm"] for a in read_log(folder.path("alarms.jsonl"))} if found else set()
    for name, text in found.items():
        if name not in known:
            folder.alarm(name, text, step)


def nothing_learned(metrics: list[dict[str, Any]]) -> str:
    """Why these steps or rounds taught nothing; empty where they may have, or where nothing was recorded."""
    otherwise = any(row.get("demos/tokens") or "teacher/kl" in row for row in metrics)
    for key, value, why in NOTHING:
        if otherwise and key in OF_REWARDS:
            continue
        if metrics and all(key in row and row[key] == value for row in metrics):
            return why
    return ""


def at_the_end(metrics: list[dict[str, Any]]) -> dict[str, str]:
    """{alarm: sentence} for a run that is over."""
    why = nothing_learned(metrics) if metrics else "no step was kept"
    return {"nothing_learned": f"nothing was learned: {why}; the model is the one it started from"} if why else {}


def before_grpo(prompts: int, samples: int) -> dict[str, str]:
    """{alarm: sentence} for a GRPO run that has not begun."""
    if prompts <= samples:
        return {}
    return {
        "few_samples": f"a round takes {prompts} prompts from {samples} samples: the same question comes several times"
    }


def sft(row: dict[str, Any]) -> dict[str, str]:
    """{alarm: sentence} for a step of SFT."""
    return _at_once({k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}, "step")


def grpo(metrics: list[dict[str, Any]]) -> dict[str, str]:
    """{alarm: sentence} for the latest rounds of a GRPO run."""
    at_once = _at_once(metrics[-1], "round") if metrics else {}
    return at_once | (_of_rounds(metrics) if len(metrics) >= WINDOW else {})


def _at_once(row: dict[str, Any], unit: str) -> dict[str, str]:
    """What holds for all of the latest round or step."""
    found = {}
    if why := nothing_learned([row]):
        found["nothing_trained"] = f"nothing was learned in this {unit}: {why}"
    if row.get("completion/cut_share") == 1:
        found["all_cut"] = "every completion of this round hit max_tokens: raise it, the reward sees no finished answer"
    if None in (row.get("loss", 0), row.get("grad_norm", 0)):
        found["not_finite"] = f"loss or gradient of this {unit} is not finite: its update was left out"
    return found


def _of_rounds(metrics: list[dict[str, Any]]) -> dict[str, str]:
    """What WINDOW rounds agree on."""
    first, last = metrics[:WINDOW], metrics[-WINDOW:]
    found = {}

    def mean(rows: list[dict[str, Any]], key: str) -> float:
        return fmean([r[key] for r in rows if r.get(key) is not None] or [0.0])

    cut = mean(last, "completion/cut_share")
    if cut > 0.5:
        found["cut"] = f"{cut:.0%} of completions hit max_tokens: raise it, or the reward only sees unfinished answers"
    flat = mean(last, "groups/zero_spread")
    if flat > 0.8:
        reward = mean(last, "reward/mean")
        why = "nearly all right" if reward > 0.8 else "nearly all wrong" if reward < 0.2 else "all members agree"
        found["no_spread"] = (
            f"{flat:.0%} of groups have no spread ({why}, mean reward {reward:.2f}): they teach nothing"
        )
    if sum(r["undecided"] for r in last) > 0:
        found["undecided"] = (
            f"{sum(r['undecided'] for r in last)} rewards of the last {WINDOW} rounds are undecided: check the golds"
        )
    length, before = mean(last, "completion/length"), mean(first, "completion/length")
    if length < 0.5 * before:
        found["length_collapse"] = f"completions shrank from {before:.0f} to {length:.0f} tokens"
    if length > 2 * before:
        found["length_runaway"] = f"completions grew from {before:.0f} to {length:.0f} tokens"
    if mean(last, "entropy") < 0.1 * mean(first, "entropy"):
        found["entropy_collapse"] = (
            f"entropy fell from {mean(first, 'entropy'):.3f} to {mean(last, 'entropy'):.3f} nats"
        )
    capped = mean(last, "sampler/capped_share")
    if capped > 0.01:
        found["sampler"] = (
            f"{capped:.1%} of tokens have capped importance weights: the engine samples from another policy"
        )
    for key in sorted({k for r in last for k in r if k.startswith("reward/") and k != "reward/mean"}):
        values = [r[key] for r in metrics if r.get(key) is not None]
        if len(values) >= 2 * WINDOW and max(values) == 0:
            found[f"never_scores_{key[7:]}"] = f"kind {key[7:]} has not earned a single reward in {len(values)} rounds"
    return found


def spike(losses: list[float], factor: float) -> bool:
    """True when the last loss is `factor` times the median of the twenty before it."""
    before = losses[-21:-1]
    return len(before) >= 5 and losses[-1] > factor * median(before)
