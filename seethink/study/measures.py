"""What accuracy alone does not tell of an arm: one table, MEASURES, of numbers that are read from a study folder.

    pass@k                does training widen what a model can do, or sharpen what it does (arXiv 2504.13837, 2512.12690)
    entropy, KL           what SFT spends before GRPO begins, and how far an arm has moved from its start (2509.04259)
    old skills, blank     what was forgotten, and what owes nothing to the pictures (2604.03179)
    by the base's rate    who gains: items the base never, sometimes or always solves (2507.07562, 2602.10815)

Every number is an Interval or a reason why there is none. Shares ("%") lie in [0, 1], differences ("points") in [-1, 1].
The further evaluations are those of the plan by their names: `eval-samples`, `eval-sampled`, `eval-blank`, `eval-old`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

import numpy as np

from seethink.core.correlation import spearman
from seethink.core.nouns import Score
from seethink.core.stats import Interval, Outcomes, compare, estimate
from seethink.evals.samples import pass_at
from seethink.study.fair import root
from seethink.study.folder import StageRun, Study
from seethink.traces.analyse import agreement, split

SAMPLES, SAMPLED, BLANK, OLD = "eval-samples", "eval-sampled", "eval-blank", "eval-old"
KS = (1, 2, 4, 8, 16)
STRATA = ("0", "(0, 25]", "(25, 75]", "(75, 100)", "100")
"""Of the base's own pass rate, in percent."""
WINDOW = 5  # rounds at either end of a training


@dataclass(frozen=True, slots=True)
class Measured:
    """A number with its interval, or why there is none."""

    interval: Interval | None
    why: str = ""
    """Empty where there is an interval."""
    items: int = 0
    """Items (of curves: points) that it rests on."""


Found = dict[str, Measured] | str
"""Row of a measure ("" where it has only one) -> number; or why an arm has none at all."""


@dataclass(frozen=True, slots=True)
class Measure:
    """How a number of an arm is read from a study.

    unit     "%", "points", "nats per token" or "rank correlation"
    needs    stages whose runs the arm must have; a function is called only where it has them
    """

    name: str
    unit: str
    needs: tuple[str, ...]
    of: Callable[[Study, str], Found]
    note: str = ""


@dataclass(frozen=True, slots=True)
class MeasureRow:
    """One number over all arms, as a report shows it."""

    measure: Measure
    row: str
    values: dict[str, Measured]
    """Arm -> number."""

    @property
    def measured(self) -> bool:
        """Whether any arm has it."""
        return any(value.interval for value in self.values.values())


def measure(study: Study) -> list[MeasureRow]:
    """Every row of MEASURES over every arm that was evaluated, in their order."""
    arms = [name for name, arm in study.arms.items() if any(stage.startswith("eval") for _, stage in arm.runs)]
    rows = []
    for one in MEASURES if arms else ():
        found = {arm: _of_arm(study, arm, one) for arm in arms}
        names = dict.fromkeys(row for values in found.values() if isinstance(values, dict) for row in values)
        for row in names or [""]:
            rows.append(MeasureRow(one, row, {arm: _in_row(known, row) for arm, known in found.items()}))
    return rows


def _in_row(found: Found, row: str) -> Measured:
    return Measured(None, found) if isinstance(found, str) else found.get(row, Measured(None, "no such items"))


def _of_arm(study: Study, arm: str, one: Measure) -> Found:
    missing = [stage for stage in one.needs if not study.arms[arm].of(stage)]
    if missing:
        name = missing[0].partition("-")[2]
        return f"no evaluation {name!r}" if name else f"no {missing[0]} run"
    return one.of(study, arm)


def pass_at_k(study: Study, arm: str) -> Found:
    """Chance that one of k sampled answers is right (arXiv 2107.03374, eq. 1), over items of which k are decided."""
    runs = study.arms[arm].of(SAMPLES)
    found = {}
    for k in KS:
        values = grid(runs, lambda scores, k=k: _pass(scores, k))
        found[f"pass@{k}"] = _estimated(values, share=True, why=f"fewer than {k} answers an item are decided")
    return found


def by_base_pass_rate(study: Study, arm: str) -> Found:
    """Accuracy on items by how often the untrained model solved them when it was sampled."""
    base = root(study, arm)
    sampled = study.arms[base].of(SAMPLES) if base in study.arms else []
    if not sampled:
        return f"{base} has no evaluation 'samples'"
    rates: dict[str, list[bool]] = defaultdict(list)
    for run in sampled:
        for score in run.scores:
            rates[score.sample_id] += [] if score.ok is None else [score.ok]
    strata: dict[str, list[str]] = {name: [] for name in STRATA}
    for item, answers in rates.items():
        if answers:
            strata[stratum(fmean(answers))].append(item)
    runs, why = study.arms[arm].of("eval"), "no item of the board has this rate"
    return {name: _estimated(grid(runs, _right, items), share=True, why=why) for name, items in strata.items()}


def stratum(rate: float) -> str:
    """The one of STRATA that a share lies in."""
    if rate in (0, 1):
        return STRATA[4 if rate else 0]
    return STRATA[1 if rate <= 0.25 else 2 if rate <= 0.75 else 3]


def drop_blank(study: Study, arm: str) -> Found:
    """Accuracy with the pictures less accuracy of the same model with grey ones in their place."""
    runs = {run.seed: run for run in study.arms[arm].of("eval")}
    grey = {run.seed: run for run in study.arms[arm].of(BLANK)}
    seeds = sorted(runs.keys() & grey.keys())
    if not seeds:
        return "no seed has both evaluations"
    items = _items(runs[seeds[0]])
    drops = grid([runs[s] for s in seeds], _right, items) - grid([grey[s] for s in seeds], _right, items)
    return {"": _compared(drops, np.zeros((1, len(items))))}


def old_skills(study: Study, arm: str) -> Found:
    """Accuracy on a board of what is not trained."""
    return {"": _estimated(grid(study.arms[arm].of(OLD), _right), share=True, why="no answer is decided")}


def old_skills_change(study: Study, arm: str) -> Found:
    """Accuracy on that board less that of the untrained model: below zero it has forgotten."""
    base = root(study, arm)
    if arm == base:
        return "it is the start"
    runs, before = study.arms[arm].of(OLD), study.arms[base].of(OLD) if base in study.arms else []
    if not before:
        return f"{base} has no evaluation 'old'"
    items = _items(runs[0])
    return {"": _compared(grid(runs, _right, items), grid(before, _right, items))}


def entropy(study: Study, arm: str) -> Found:
    """Of the model's own answers: on held-out prompts, and in the first and last rounds of its own GRPO."""
    sampled = grid(study.arms[arm].of(SAMPLED), lambda scores: _mean(score.entropy for score in scores))
    found = {"held-out prompts": _estimated(sampled, why="no evaluation 'sampled' against a model")}
    curves = [[value for _, value in run.curve("entropy")] for run in study.arms[arm].of("grpo")]
    curves = [curve for curve in curves if len(curve) >= 2 * WINDOW]
    for name, part in (("first", slice(WINDOW)), ("last", slice(-WINDOW, None))):
        rounds = np.array([curve[part] for curve in curves], dtype=np.float64)
        found[f"{name} {WINDOW} rounds"] = _estimated(rounds, why=f"no GRPO of its own with {2 * WINDOW} rounds")
    return found


def kl_from_start(study: Study, arm: str) -> Found:
    """KL(arm || the untrained model it goes back to), per token of the arm's own answers to held-out prompts."""
    runs, base = study.arms[arm].of(SAMPLED), root(study, arm)
    start = study.arms[base].of("eval") if base in study.arms else []
    known = {run.manifest["inputs"].get("model") for run in start}
    others = {run.manifest["inputs"].get("against") for run in runs} - {None}
    if known and others - known:
        return f"it was scored against another model than {base}"
    values = grid(runs, lambda scores: _mean(None if s.kl is None else max(0.0, s.kl) for s in scores))
    return {"": _estimated(values, why="it was not scored against a model (against)")}


def think_agrees(study: Study, arm: str) -> Found:
    """Share of answers that are the last result which their own thinking states, where one can be read."""
    if not study.board:
        return "the board's file is gone"

    def agrees(scores: list[Score]) -> float | None:
        found = (agreement(s.text, study.board[s.sample_id]) for s in scores if s.sample_id in study.board)
        return _mean(found)

    return _by_kind(study, grid(study.arms[arm].of("eval"), agrees, study.items), "no thinking states a result")


def empty_thinking(study: Study, arm: str) -> Found:
    """Share of answers that come without a word of thinking."""
    values = grid(study.arms[arm].of("eval"), lambda scores: _mean(not split(s.text)[0] for s in scores), study.items)
    return _by_kind(study, values, "no answer came")


def reward_against_accuracy(study: Study, arm: str) -> Found:
    """Spearman correlation of held-out accuracy with the mean training reward since the evaluation before.

    Levels of the seeds are taken off. Points of one run follow each other, so the interval is too narrow rather than too wide.
    """
    rewards, accuracies = [], []
    for run in study.arms[arm].of("grpo"):
        points = watch_points(run)
        if len(points) > 1:
            off_level = np.round(np.array(points) - np.mean(points, axis=0), 9)  # equal values stay equal
            rewards += off_level[:, 0].tolist()
            accuracies += off_level[:, 1].tolist()
    if not rewards:
        return "it was not evaluated while it trained (watch)"
    found = spearman(rewards, accuracies)
    why = "" if found else f"{len(rewards)} evaluations while it trained, too few or all alike"
    return {"": Measured(found, why, len(rewards))}


def watch_points(run: StageRun) -> list[tuple[float, float]]:
    """(mean training reward since the last evaluation, held-out accuracy) of every evaluation after the first."""
    rewards, watched = run.curve("reward/mean"), run.curve("held_out/accuracy")
    found = []
    for (before, _), (now, accuracy) in pairwise(watched):
        since = [reward for at, reward in rewards if before < at <= now]
        if since:
            found.append((fmean(since), accuracy))
    return found


MEASURES = (
    Measure("pass@k", "%", (SAMPLES,), pass_at_k, "one of k sampled answers is right"),
    Measure("Accuracy by the base's pass rate", "%", ("eval",), by_base_pass_rate, "rate of the untrained model, in %"),
    Measure("Entropy", "nats per token", (), entropy, "of the model's own answers"),
    Measure("KL to the start", "nats per token", (SAMPLED,), kl_from_start, "over the arm's own answers"),
    Measure("Old skills", "%", (OLD,), old_skills, "a board that is not trained"),
    Measure("Old skills, change", "points", (OLD,), old_skills_change, "since the untrained model"),
    Measure("Drop without pictures", "points", ("eval", BLANK), drop_blank, "grey pictures"),
    Measure("Thinking agrees with the answer", "%", ("eval",), think_agrees, "where a last result is stated"),
    Measure("Empty thinking", "%", ("eval",), empty_thinking),
    Measure("Reward against held-out accuracy", "rank correlation", ("grpo",), reward_against_accuracy, "while it trained"),
)  # fmt: skip
"""What is measured of every arm beside its accuracy."""


def grid(
    runs: Sequence[StageRun], value: Callable[[list[Score]], float | None], items: Sequence[str] | None = None
) -> Outcomes:
    """[S, N] of a value of all answers to an item, NaN where it has none; items: those of the first run."""
    table: list[dict[str, list[Score]]] = []
    for run in runs:
        table.append(defaultdict(list))
        for score in run.scores:
            table[-1][score.sample_id].append(score)
    names = items if items is not None else _items(runs[0]) if runs else []
    rows = [[value(of_run[item]) if item in of_run else None for item in names] for of_run in table]
    return np.array(rows, dtype=np.float64).reshape(len(runs), len(names))  # None becomes NaN


def _items(run: StageRun) -> list[str]:
    return list(dict.fromkeys(score.sample_id for score in run.scores))


def _compared(a: Outcomes, b: Outcomes) -> Measured:
    found = compare(a, b)
    return Measured(found.interval, "", found.items) if found else Measured(None, "no item is decided in both")


def _by_kind(study: Study, values: Outcomes, why: str) -> dict[str, Measured]:
    """All items, and those of every kind."""
    masks = {"all": np.ones(len(study.items), bool)} | {k: study.where("kind", k) for k in study.values_of("kind")}
    return {name: _estimated(values[:, mask], share=True, why=why) for name, mask in masks.items()}


def _estimated(values: Outcomes, share: bool = False, why: str = "") -> Measured:
    found = estimate(values, share) if values.size else None
    decided = int((~np.isnan(values)).any(axis=0).sum()) if values.size else 0
    return Measured(found, "" if found else why, decided)


def _right(scores: list[Score]) -> float | None:
    return _mean(score.ok for score in scores)


def _pass(scores: list[Score], k: int) -> float | None:
    decided = [score.ok for score in scores if score.ok is not None]
    return pass_at(len(decided), sum(decided), k) if len(decided) >= k else None


def _mean(values: Iterable[float | None]) -> float | None:
    """Over what is known; None where nothing is."""
    known = [float(value) for value in values if value is not None]
    return fmean(known) if known else None
