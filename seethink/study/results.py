"""What came out: accuracy of every arm, the planned comparisons with their verdict words, and the headline.

Verdict words follow from intervals and adjusted p values alone; the planned comparisons are one family (Holm), and so are
their tests of equivalence. To the pairs that a plan names is added, for every arm that explores after imitating, what
exploring added to its imitation. Arms may start from several bases: each is compared with its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

from seethink.core.correlation import intraclass
from seethink.core.stats import (
    Comparison,
    Interval,
    compare,
    equivalence,
    estimate,
    holm,
    mean_interval,
    p_text,
    seed_warning,
    verdict,
)
from seethink.study.config import Question
from seethink.study.fair import repeats, root, unmatched
from seethink.study.folder import Study
from seethink.study.learned import silence
from seethink.study.matched import ASKED_AS_TAUGHT, HELD_OUT, SEEN_AS_TAUGHT, Control, controls, held_out
from seethink.study.titles import asked, title_of, title_of_pair
from seethink.traces.analyse import split

WINDOW = 5  # steps averaged at either end of a training curve
EMPTY_SHARE = 0.2  # a base that leaves its thinking empty this often on a kind is handicapped there (`auto`)
OTHER_FAULTS = {
    HELD_OUT: "the board stands in the training data",
    ASKED_AS_TAUGHT: "a model is asked under another system prompt than it was trained under",
    SEEN_AS_TAUGHT: "a model sees pictures within other bounds than it was trained with",
}
"""Controls that do not compare the arms with each other, and what it means when they are broken."""
SILENT = {
    "nothing learned": "Nothing was learned.",
    "at the floor": "Nothing can be seen: the board is too hard for these arms.",
    "at the ceiling": "Nothing can be seen: the board is too easy for these arms.",
    "not matched": "Nothing is said: the arms are not matched on what the plan wants matched.",
}
"""Verdict words that say nothing about the arms -> the answer where no comparison says anything."""


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
    """Against the untrained model that its training started from."""
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
    equivalence_p: float | None = None
    """Adjusted p that the difference is as large as the plan's margin; None where it names none."""
    family: int = 1
    """Measured comparisons that share Holm's correction."""
    unmatched: str = ""
    """Efforts on which the plan wants the arms matched and they are not; where it accepts that, the word stands."""
    elsewhere: dict[str, Comparison] = field(default_factory=dict)
    """Another base -> the same comparison from there."""

    @property
    def p_text(self) -> str:
        """The adjusted p in words; a bound where the bootstrap cannot tell a smaller one."""
        if self.overall is None or self.adjusted_p is None:
            return "not measured"
        return p_text(self.adjusted_p, self.overall.p_at_most)

    @property
    def tested(self) -> str:
        """The adjusted p and what it is adjusted over: `p = 0.077, Holm over 11 comparisons`; empty where nothing was measured."""
        if self.overall is None or self.adjusted_p is None:
            return ""
        p = self.p_text if self.p_text.startswith("<") else f"= {self.p_text}"
        return f"p {p}, Holm over {self.family} comparisons" if self.family > 1 else f"p {p}"

    @property
    def detectable(self) -> float | None:
        """Smallest true difference that this comparison finds four times out of five, Holm's correction included."""
        return self.overall.detectable(self.family) if self.overall else None

    def power(self, effect: float) -> float | None:
        """Chance of finding a true difference of this size (.02: two points), Holm's correction included."""
        return self.overall.power(effect, self.family) if self.overall else None

    @property
    def over_bases(self) -> Interval | None:
        """The difference with its interval where bases too are chance: Student's t over them; None for a single one."""
        return mean_interval([c.interval.estimate for c in [self.overall, *self.elsewhere.values()] if c])


@dataclass(frozen=True, slots=True)
class Headline:
    """The first thing a reader sees."""

    answer: str
    primary: Contrast | None
    warning: str
    """Few seeds, unmatched controls, missing runs; empty when nothing limits the verdict."""
    without_kinds: tuple[str, ...] = ()
    """Kinds on which the base is held back by design."""
    without: Headline | None = None
    """The headline over all other kinds; None where no kind is handicapped."""


@dataclass(frozen=True, slots=True)
class KindRow:
    """One kind of question on the board: what blind guessing gets, what nobody gets, and what each arm gained."""

    kind: str
    items: int
    majority: str | None
    """The most frequent gold; None where the board is gone."""
    majority_share: float | None
    """Share of items with that gold, by equal text: accuracy of always giving it."""
    never_solved: int
    """Items that were decided and that no arm had right in any seed."""
    gains: dict[str, Comparison | None]
    """Trained arm -> its difference to its own base on this kind; not corrected for how many there are."""

    @property
    def never_solved_share(self) -> float:
        return self.never_solved / self.items


def arm_results(study: Study) -> list[ArmResult]:
    """One row per arm in the order of the plan, each followed by its further evaluations that ask the board once."""
    rows, board = [], set(study.items)
    for name, arm in study.arms.items():
        rows.append(_arm_result(study, name))
        for stage in dict.fromkeys(stage for _, stage in sorted(arm.runs) if stage.startswith("eval-")):
            scores = [score for run in arm.of(stage) for score in run.scores]
            if scores and all(score.draw == 0 and score.sample_id in board for score in scores):
                rows.append(_arm_result(study, name, stage))
    return rows


def planned(study: Study) -> list[tuple[str, str]]:
    """The plan's comparisons, and what exploring added to every arm that imitated before.

    Not to one that starts from an early export, whose model is not the one that was evaluated.
    """
    pairs = list(study.comparisons)
    for name, arm in study.arms.items():
        pair, early = (name, arm.start), study.plan["arms"].get(name, {}).get("at")
        explores = arm.stages[-2:] == ("sft", "grpo") and arm.start in study.arms and not early
        if explores and not {pair, pair[::-1]} & set(pairs):
            pairs.append(pair)
    return pairs


def handicapped(study: Study) -> list[str]:
    """Kinds of the board on which the base is held back by design, as the plan names them or as its empty thinking shows."""
    named, kinds = study.plan.get("handicapped") or [], study.values_of("kind")
    if named != "auto":
        return [kind for kind in kinds if kind in named]
    scores = [score for run in study.arms["base"].of("eval") for score in run.scores] if "base" in study.arms else []
    empty = {kind: [not split(s.text)[0] for s in scores if s.kind == kind] for kind in kinds}
    return [kind for kind, values in empty.items() if values and fmean(values) >= EMPTY_SHARE]


def contrasts(study: Study, without: Sequence[str] = ()) -> list[Contrast]:
    """The planned comparisons, p values adjusted over all of them; over all items, or those of other kinds than `without`."""
    items = np.array([score.kind not in without for score in study.first_scores], dtype=bool)
    pairs, parts = planned(study), study.values_of("part")
    overall = [_compare(study, a, b, items) for a, b in pairs]
    measured = [c for c in overall if c]
    adjusted, margin = iter(holm([c.p for c in measured])), study.plan.get("equivalent_within", 0) / 100
    same = iter(holm([equivalence(c, margin) for c in measured]) if margin else ())
    found = []
    for (a, b), comparison in zip(pairs, overall, strict=True):
        p, same_p = (next(adjusted), next(same, None)) if comparison else (None, None)
        word, why, off = "not measured", "", unmatched(study, a, b)
        if comparison and p is not None:
            word = verdict(comparison.interval, p, 1.0 if same_p is None else same_p)
            word, why = silence(study, a, b, word, items)
            if off and word not in SILENT and not study.plan.get("accept_unmatched"):
                word, why = "not matched", off
        inside = {part: items & study.where("part", part) for part in parts} if len(parts) > 1 else {}
        by_part = {part: _compare(study, a, b, mask) for part, mask in inside.items()}
        shared = [*controls(study, a, b), *held_out(study, a, b)]
        title = title_of_pair(study, a, b, off)
        elsewhere = {base: c for base, x, y in repeats(study, a, b) if (c := _compare(study, x, y, items))}
        found.append(
            Contrast(a, b, title, comparison, by_part, p, word, shared, why, same_p, len(measured), off, elsewhere)
        )
    return found


def headline(study: Study, found: Sequence[Contrast]) -> Headline:
    """The answer to the study's question, by rule from the verdicts of the comparisons that it names; with and without the
    kinds on which the base is handicapped."""
    kinds = tuple(handicapped(study))
    without = _headline(study, contrasts(study, kinds)) if kinds else None
    whole = _headline(study, found)
    return Headline(whole.answer, whole.primary, whole.warning, kinds, without)


def _headline(study: Study, found: Sequence[Contrast]) -> Headline:
    answering = [c for c in found if (c.a, c.b) in study.question.comparisons]
    primary = next((c for c in [*answering, *found] if c.overall), None)
    notes = ["no finished evaluation"]
    if primary and primary.overall:
        broken = {c.name: c.detail for c in primary.controls if c.same is False}
        other = [name for name in broken if name not in OTHER_FAULTS]
        trained = [study.arms[arm] for arm in (primary.a, primary.b) if study.arms[arm].stages]
        notes = [
            seed_warning(min([len(arm.seeds) for arm in trained], default=primary.overall.seeds)),
            "seeds differ more than chance explains, so only more of them narrow the interval"
            if primary.overall.seeds_disagree
            else "",
            f"the arms differ in more than the named factor ({', '.join(other)})" if other else "",
            f"the arms are not matched on {primary.unmatched}"
            if primary.unmatched and primary.word != "not matched"
            else "",
            *(f"{what} ({broken[name]})" for name, what in OTHER_FAULTS.items() if name in broken),
        ]
    missing = sum(c.word == "not measured" for c in found)
    notes.append(f"{missing} of {len(found)} comparisons not measured" if missing else "")
    notes += [f"{c.a} against {c.b}: {c.word} ({c.why})" for c in found if c.why]
    words = [c.word for c in answering if c.word != "not measured"]
    answer = _answer(study.question, words, study.plan.get("equivalent_within", 0))
    alone = [c for c in answering if not c.elsewhere and not (study.arms[c.a].stages and study.arms[c.b].stages)]
    if {"better", "worse"} & {c.word for c in alone}:
        answer += " That is said of this base checkpoint: no other was tried."
    return Headline(answer, primary, "; ".join(n for n in notes if n))


def _answer(question: Question, words: Sequence[str], margin: float = 0.0) -> str:
    better, worse = words.count("better"), words.count("worse")
    if not words:
        return "Not measured yet."
    if better and worse:
        return question.mixed
    if worse:
        return question.worse if worse == len(words) else question.never_better
    if better:
        return question.better if better == len(words) else question.never_worse
    if set(words) == {"equivalent"}:
        return f"{question.same} The arms are the same within {margin:g} points."
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


def kind_rows(study: Study, part: str = "") -> list[KindRow]:
    """One row per kind of question, over the whole board or one part of it."""
    outcomes = {name: study.outcomes(name) for name in study.arms}
    answered = np.vstack(list(outcomes.values())) if outcomes else np.empty((0, len(study.items)))
    unsolved = ~(answered == 1).any(axis=0) & ~np.isnan(answered).all(axis=0)
    inside = study.where("part", part) if part else np.ones(len(study.items), dtype=bool)
    rows = []
    for kind in study.values_of("kind"):
        mask = inside & study.where("kind", kind)
        if not mask.any():
            continue
        ids = [item for item, chosen in zip(study.items, mask, strict=True) if chosen]
        golds = [" ".join(study.board[item].gold.split()) for item in ids if item in study.board]
        majority, times = Counter(golds).most_common(1)[0] if len(golds) == len(ids) else (None, None)
        gains = {
            name: _compare(study, name, root(study, name), mask)
            for name, arm in study.arms.items()
            if arm.stages and root(study, name) in study.arms
        }
        share = None if times is None else times / len(ids)
        rows.append(KindRow(kind, len(ids), majority, share, int(unsolved[mask].sum()), gains))
    return rows


def seed_correlation(study: Study) -> Interval | None:
    """Does a seed that arms share make their accuracies alike? Over all trained arms; None below two arms and two seeds.

    The ground on which a plan may pair seeds (`pair_seeds`); see core/stats.py.
    """
    trained = [name for name, arm in study.arms.items() if arm.stages and arm.seeds == study.seeds]
    table = [[float(np.nanmean(run)) for run in study.outcomes(name) if not np.isnan(run).all()] for name in trained]
    whole = [row for row in table if len(row) == len(study.seeds)]
    return intraclass(np.array(whole)) if len(whole) > 1 else None


def _arm_result(study: Study, arm: str, stage: str = "eval") -> ArmResult:
    """Of a further evaluation, the arm is compared with its plain one as well."""
    cue, title, base = stage.partition("-")[2], title_of(study, arm), root(study, arm)
    runs, outcomes = study.arms[arm].of(stage), study.outcomes(arm, stage=stage)
    scores = [score for run in runs for score in run.scores]
    curves = [] if cue else [[value for _, value in run.curve("entropy")] for run in study.arms[arm].of("grpo")]
    entropies = [fmean(curve[-WINDOW:]) for curve in curves if curve]
    others = set(study.arms) if cue else set(study.arms) - {arm}
    return ArmResult(
        name=f"{arm}, {cue}" if cue else arm,
        arm=arm,
        title=f"{title}, {asked(study, cue)}" if cue else title,
        per_seed=[float(np.nanmean(run)) for run in outcomes if not np.isnan(run).all()],
        accuracy=estimate(outcomes, share=True),
        reward=estimate(study.outcomes(arm, "reward", stage), share=True),
        length=estimate(study.outcomes(arm, "tokens", stage)),
        entropy=fmean(entropies) if entropies else None,
        against_base=_compare(study, arm, base, stage=stage) if base in others else None,
        against_reference=_compare(study, arm, study.reference, stage=stage) if study.reference in others else None,
        undecided=sum(score.ok is None for score in scores),
        cut=fmean(score.stop == "length" for score in scores) if scores else None,
    )


def _compare(
    study: Study, a: str, b: str, items: np.ndarray | slice = slice(None), stage: str = "eval"
) -> Comparison | None:
    pair, paired = study.paired(a, b, stage), bool(study.plan.get("pair_seeds"))
    return compare(pair[0][:, items], pair[1][:, items], pair_seeds=paired) if pair else None
