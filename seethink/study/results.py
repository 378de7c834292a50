"""What came out: accuracy of every arm, the planned comparisons with their verdict words, and the headline.

Verdict words follow from intervals and adjusted p values alone; the planned comparisons are one family (Holm).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from seethink.study.folder import Study
from seethink.study.matched import Control, controls
from seethink.study.stats import Comparison, Interval, compare, estimate, holm, seed_warning, verdict

WINDOW = 5  # steps averaged at either end of a training curve
REWARD_RISE = 0.05  # a training reward that rose by this much should show on held-out items


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One arm on the held-out board; None where it was not measured."""

    name: str
    """The arm, and the cue where it was asked to think in another style."""
    arm: str
    title: str
    seeds: list[int]
    per_seed: list[float]
    """Accuracy of each seed, in the order of `seeds`."""
    accuracy: Interval | None
    reward: Interval | None
    length: Interval | None
    """Tokens per completion."""
    entropy: float | None
    """Nats per token over the last steps of GRPO, mean over seeds."""
    against_base: Comparison | None
    against_reference: Comparison | None
    undecided: int
    cut: float | None
    """Share of completions that hit the token limit."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """One planned comparison: arm a minus arm b."""

    a: str
    b: str
    title: str
    overall: Comparison | None
    by_part: dict[str, Comparison | None]
    adjusted_p: float | None
    word: str
    """better, worse, not distinguishable, or not measured"""
    controls: list[Control]


@dataclass(frozen=True, slots=True)
class Headline:
    """The first thing a reader sees."""

    answer: str
    primary: Contrast | None
    warning: str
    """Few seeds, unmatched controls, missing runs; empty when nothing limits the verdict."""


def title_of(study: Study, arm: str) -> str:
    """An arm in words: `SFT (hesitant), then GRPO`."""
    spec = study.arms[arm]
    words = {"sft": f"SFT ({spec.style})" if spec.style else "SFT", "grpo": "GRPO"}
    stages = [words.get(stage, stage) for stage in spec.stages]
    if not stages:
        return "Base model"
    return f"{stages[0]} alone" if len(stages) == 1 else ", then ".join(stages)


def reference_of(study: Study) -> str:
    """The arm the others are measured against: GRPO from the base, else the base."""
    explorers = [name for name, arm in study.arms.items() if arm.stages == ("grpo",)]
    return explorers[0] if explorers else "base"


def arm_results(study: Study) -> list[ArmResult]:
    """One row per arm in the order of the plan, each followed by its evaluations under another cue."""
    reference, rows = reference_of(study), []
    for name, arm in study.arms.items():
        rows.append(_arm_result(study, name, reference))
        cues = dict.fromkeys(stage for _, stage in sorted(arm.runs) if stage.startswith("eval-"))
        rows += [_arm_result(study, name, reference, cue) for cue in cues]
    return rows


def contrasts(study: Study) -> list[Contrast]:
    """The planned comparisons, p values adjusted over all of them; without a plan, every arm against the reference."""
    reference = reference_of(study)
    pairs = study.plan.get("comparisons") or [[n, reference] for n in study.arms if n not in ("base", reference)]
    overall = [_compare(study, a, b) for a, b in pairs]
    adjusted = iter(holm([c.p for c in overall if c]))
    found = []
    for (a, b), comparison in zip(pairs, overall, strict=True):
        p = next(adjusted) if comparison else None
        word = verdict(comparison.interval, p) if comparison else "not measured"
        parts = study.values_of("part")
        by_part = {part: _compare(study, a, b, study.where("part", part)) for part in parts} if len(parts) > 1 else {}
        title = f"{title_of(study, a)}, against {title_of(study, b)}"
        found.append(Contrast(a, b, title, comparison, by_part, p, word, controls(study, a, b)))
    return found


def headline(study: Study, found: Sequence[Contrast]) -> Headline:
    """Imitate or explore? The answer by rule from the verdicts of SFT-then-GRPO against GRPO alone."""
    reference = reference_of(study)
    asked = [c for c in found if c.b == reference and study.arms[c.a].stages == ("sft", "grpo")]
    words = [c.word for c in asked if c.word != "not measured"]
    primary = next((c for c in asked if c.overall), next((c for c in found if c.overall), None))
    missing = sum(c.word == "not measured" for c in found)
    notes = [*_limits(primary), f"{missing} of {len(found)} comparisons not measured" if missing else ""]
    return Headline(_answer(words), primary, "; ".join(n for n in notes if n))


def by_kind(study: Study, part: str) -> dict[str, dict[str, Interval | None]]:
    """kind -> arm -> accuracy on one part of the board."""
    inside = study.where("part", part)
    return {
        kind: {name: _accuracy(study, name, inside & study.where("kind", kind)) for name in study.arms}
        for kind in study.values_of("kind")
    }


def study_alarms(study: Study, found: Sequence[Contrast]) -> list[str]:
    """What only the whole study can see."""
    reference = reference_of(study)
    alarms = [
        f"{c.a} is below {c.b}: imitating before exploring cost {-100 * c.overall.interval.estimate:.1f} points of accuracy"
        for c in found
        if c.word == "worse" and c.b == reference and "sft" in study.arms[c.a].stages
    ]
    for name, arm in study.arms.items():
        curves = [[m.get("reward/mean") for m in run.metrics] for run in arm.of("grpo")]
        rises = [rise for curve in curves if (rise := _rise(curve)) is not None]
        gain = _compare(study, name, arm.start) if arm.start in study.arms else None
        if not (rises and gain and fmean(rises) > REWARD_RISE):
            continue
        if gain.interval.low <= 0 and gain.interval.high < fmean(rises):  # surely less than the reward promised
            alarms.append(
                f"{name}: training reward rose by {fmean(rises):.2f}, but held-out accuracy did not follow "
                f"({100 * gain.interval.estimate:+.1f} points over {arm.start})"
            )
    return alarms


def _answer(words: Sequence[str]) -> str:
    better, worse = words.count("better"), words.count("worse")
    if not words:
        return "Not measured yet."
    if better and worse:
        return "It depends on what is imitated."
    if worse:
        return "Explore. Imitating first hurt." if worse == len(words) else "Explore. Imitating first never helped."
    if better:
        return "Imitate first." if better == len(words) else "Imitate first. It helped or did no harm that can be seen."
    return "No difference can be seen."


def _limits(primary: Contrast | None) -> list[str]:
    """What a reader of the headline has to know about its comparison."""
    if primary is None:
        return ["no finished evaluation"]
    unmatched = [c.name for c in primary.controls if c.same is False]
    return [
        seed_warning(primary.overall.seeds),
        "seeds disagree more than chance explains, so more of them are needed"
        if primary.overall.seeds_disagree
        else "",
        f"the arms differ in more than the named factor ({', '.join(unmatched)})" if unmatched else "",
    ]


def _arm_result(study: Study, arm: str, reference: str, stage: str = "eval") -> ArmResult:
    cue = stage.partition("-")[2]
    runs, outcomes = study.arms[arm].of(stage), study.outcomes(arm, stage=stage)
    scores = [score for run in runs for score in run.scores]
    entropies = [_last([m.get("entropy") for m in run.metrics]) for run in study.arms[arm].of("grpo")]
    entropies = [e for e in entropies if e is not None and not cue]
    itself = {arm} if not cue else set()
    return ArmResult(
        name=f"{arm}, {cue}" if cue else arm,
        arm=arm,
        title=f"{title_of(study, arm)}, asked to be {cue}" if cue else title_of(study, arm),
        seeds=[run.seed for run in runs],
        per_seed=[] if outcomes is None else [float(np.nanmean(run)) for run in outcomes if not np.isnan(run).all()],
        accuracy=_estimate(outcomes, share=True),
        reward=_estimate(study.outcomes(arm, "reward", stage), share=True),
        length=_estimate(study.outcomes(arm, "tokens", stage)),
        entropy=fmean(entropies) if entropies else None,
        against_base=_compare(study, arm, "base", stage=stage) if "base" in study.arms.keys() - itself else None,
        against_reference=_compare(study, arm, reference, stage=stage) if reference not in itself else None,
        undecided=sum(score.ok is None for score in scores),
        cut=fmean(score.stop == "length" for score in scores) if scores else None,
    )


def _compare(study: Study, a: str, b: str, items: np.ndarray | None = None, stage: str = "eval") -> Comparison | None:
    pair = study.paired(a, b, stage)
    if pair is None:
        return None
    return compare(*pair) if items is None else compare(pair[0][:, items], pair[1][:, items])


def _estimate(outcomes: np.ndarray | None, share: bool = False) -> Interval | None:
    return None if outcomes is None else estimate(outcomes, share)


def _accuracy(study: Study, arm: str, items: np.ndarray) -> Interval | None:
    """Accuracy of an arm on some of the items."""
    outcomes = study.outcomes(arm)
    return None if outcomes is None else estimate(outcomes[:, items], share=True)


def _last(values: Sequence[float | None]) -> float | None:
    """Mean of the last steps that recorded a value."""
    recorded = [v for v in values if v is not None][-WINDOW:]
    return fmean(recorded) if recorded else None


def _rise(values: Sequence[float | None]) -> float | None:
    """Mean of the last steps minus mean of the first; None for a run too short to say."""
    recorded = [v for v in values if v is not None]
    return None if len(recorded) < 2 * WINDOW else fmean(recorded[-WINDOW:]) - fmean(recorded[:WINDOW])
