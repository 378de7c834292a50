"""What came out: accuracy of every arm, the planned comparisons with their verdict words, and the headline.

Verdict words follow from intervals and adjusted p values alone; the planned comparisons are one family (Holm).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from seethink.core.stats import Comparison, Interval, compare, estimate, holm, seed_warning, verdict
from seethink.study.config import Question
from seethink.study.folder import Study
from seethink.study.learned import silence, warnings
from seethink.study.matched import ASKED_AS_TAUGHT, HELD_OUT, Control, controls, held_out

WINDOW = 5  # steps averaged at either end of a training curve
OTHER_FAULTS = {
    HELD_OUT: "the board stands in the training data",
    ASKED_AS_TAUGHT: "a model is asked under another system prompt than it was trained under",
}
"""Controls that do not compare the arms with each other, and what it means when they are broken."""
SILENT = {
    "nothing learned": "Nothing was learned.",
    "at the floor": "Nothing can be seen: the board is too hard for these arms.",
    "at the ceiling": "Nothing can be seen: the board is too easy for these arms.",
}
"""Verdict words that say nothing about the arms -> the answer where no comparison says anything."""
REWARD_RISE = 0.05  # a training reward that rose by this much should show on held-out items


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One arm on the held-out board; None where it was not measured."""

    name: str
    """The arm, and the cue where it was asked to think in another style."""
    arm: str
    title: str
    per_seed: list[float]
    """Accuracy of each seed."""
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
    """One of stats.VERDICTS."""
    controls: list[Control]
    why: str = ""
    """Why a comparison says nothing; empty where it speaks."""


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


def arm_results(study: Study) -> list[ArmResult]:
    """One row per arm in the order of the plan, each followed by its evaluations under another cue."""
    rows = []
    for name, arm in study.arms.items():
        rows.append(_arm_result(study, name))
        cues = dict.fromkeys(stage for _, stage in sorted(arm.runs) if stage.startswith("eval-"))
        rows += [_arm_result(study, name, cue) for cue in cues]
    return rows


def contrasts(study: Study) -> list[Contrast]:
    """The planned comparisons, p values adjusted over all of them."""
    overall = [_compare(study, a, b) for a, b in study.comparisons]
    adjusted = iter(holm([c.p for c in overall if c]))
    found, parts = [], study.values_of("part")
    for (a, b), comparison in zip(study.comparisons, overall, strict=True):
        p = next(adjusted) if comparison else None
        word, why = "not measured", ""
        if comparison and p is not None:
            word, why = silence(study, a, b, verdict(comparison.interval, p))
        by_part = {part: _compare(study, a, b, study.where("part", part)) for part in parts} if len(parts) > 1 else {}
        title = f"{title_of(study, a)}, against {title_of(study, b)}"
        found.append(
            Contrast(a, b, title, comparison, by_part, p, word, [*controls(study, a, b), *held_out(study, a, b)], why)
        )
    return found


def headline(study: Study, found: Sequence[Contrast]) -> Headline:
    """The answer to the study's question, by rule from the verdicts of the comparisons that it names."""
    asked = [c for c in found if (c.a, c.b) in study.question.comparisons]
    primary = next((c for c in [*asked, *found] if c.overall), None)
    notes = ["no finished evaluation"]
    if primary and primary.overall:
        broken = {c.name: c.detail for c in primary.controls if c.same is False}
        unmatched = [name for name in broken if name not in OTHER_FAULTS]
        notes = [
            seed_warning(primary.overall.seeds),
            "seeds disagree more than chance explains, so more of them are needed"
            if primary.overall.seeds_disagree
            else "",
            f"the arms differ in more than the named factor ({', '.join(unmatched)})" if unmatched else "",
            *(f"{what} ({broken[name]})" for name, what in OTHER_FAULTS.items() if name in broken),
        ]
    missing = sum(c.word == "not measured" for c in found)
    notes.append(f"{missing} of {len(found)} comparisons not measured" if missing else "")
    notes += [f"{c.a} against {c.b}: {c.word} ({c.why})" for c in found if c.why]
    words = [c.word for c in asked if c.word != "not measured"]
    return Headline(_answer(study.question, words), primary, "; ".join(n for n in notes if n))


def _answer(question: Question, words: Sequence[str]) -> str:
    better, worse = words.count("better"), words.count("worse")
    if not words:
        return "Not measured yet."
    if better and worse:
        return question.mixed
    if worse:
        return question.worse if worse == len(words) else question.never_better
    if better:
        return question.better if better == len(words) else question.never_worse
    silent = [word for word in SILENT if word in words]
    if silent and set(words) <= SILENT.keys():
        return SILENT[silent[0]]
    mute = sum(word in SILENT for word in words)
    return (
        f"{question.same} {mute} of {len(words)} comparisons say nothing ({', '.join(silent)})."
        if mute
        else question.same
    )


def by_kind(study: Study, part: str) -> dict[str, dict[str, Interval | None]]:
    """kind -> arm -> accuracy on one part of the board."""
    inside, outcomes = study.where("part", part), {name: study.outcomes(name) for name in study.arms}
    masks = {kind: inside & study.where("kind", kind) for kind in study.values_of("kind")}
    return {
        kind: {name: estimate(rows[:, mask], share=True) for name, rows in outcomes.items()}
        for kind, mask in masks.items()
    }


def study_alarms(study: Study, found: Sequence[Contrast]) -> list[str]:
    """What only the whole study can see."""
    alarms = list(warnings(study))
    for c in found:
        a, b = study.arms[c.a].stages, study.arms[c.b].stages
        if c.overall and c.word == "worse" and b and a == ("sft", *b):
            cost = f"{-100 * c.overall.interval.estimate:.1f} points of accuracy"
            alarms.append(f"{c.a} is below {c.b}: imitating before exploring cost {cost}")
    for name, arm in study.arms.items():
        curves = [[reward for _, reward in run.curve("reward/mean")] for run in arm.of("grpo")]
        rises = [fmean(c[-WINDOW:]) - fmean(c[:WINDOW]) for c in curves if len(c) >= 2 * WINDOW]
        gain = _compare(study, name, arm.start) if arm.start in study.arms else None
        if not (rises and gain and fmean(rises) > REWARD_RISE):
            continue
        if gain.interval.low <= 0 and gain.interval.high < fmean(rises):  # surely less than the reward promised
            alarms.append(
                f"{name}: training reward rose by {fmean(rises):.2f}, but held-out accuracy did not follow "
                f"({100 * gain.interval.estimate:+.1f} points over {arm.start})"
            )
    return alarms


def _arm_result(study: Study, arm: str, stage: str = "eval") -> ArmResult:
    """Under the cue of the stage `eval-<cue>`, the arm is compared with itself as well."""
    cue, title = stage.partition("-")[2], title_of(study, arm)
    runs, outcomes = study.arms[arm].of(stage), study.outcomes(arm, stage=stage)
    scores = [score for run in runs for score in run.scores]
    curves = [] if cue else [[value for _, value in run.curve("entropy")] for run in study.arms[arm].of("grpo")]
    entropies = [fmean(curve[-WINDOW:]) for curve in curves if curve]
    others = set(study.arms) if cue else set(study.arms) - {arm}
    return ArmResult(
        name=f"{arm}, {cue}" if cue else arm,
        arm=arm,
        title=f"{title}, asked to be {cue}" if cue else title,
        per_seed=[float(np.nanmean(run)) for run in outcomes if not np.isnan(run).all()],
        accuracy=estimate(outcomes, share=True),
        reward=estimate(study.outcomes(arm, "reward", stage), share=True),
        length=estimate(study.outcomes(arm, "tokens", stage)),
        entropy=fmean(entropies) if entropies else None,
        against_base=_compare(study, arm, "base", stage=stage) if "base" in others else None,
        against_reference=_compare(study, arm, study.reference, stage=stage) if study.reference in others else None,
        undecided=sum(score.ok is None for score in scores),
        cut=fmean(score.stop == "length" for score in scores) if scores else None,
    )


def _compare(
    study: Study, a: str, b: str, items: np.ndarray | slice = slice(None), stage: str = "eval"
) -> Comparison | None:
    pair = study.paired(a, b, stage)
    return compare(pair[0][:, items], pair[1][:, items]) if pair else None
