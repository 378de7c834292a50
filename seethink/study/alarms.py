"""Alarms that only a whole study can raise: one table, as that of a training run (train/alarms.py), in words.

docs/alarms.md is rendered from it. What keeps a single comparison from speaking is a verdict word, not an alarm (learned.py, fair.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from seethink.core.alarms import AlarmRule, Facts, raised
from seethink.core.nouns import Score
from seethink.core.stats import compare
from seethink.study.fair import BACKWARD, COMPUTE_TOLERANCE, short_of_compute
from seethink.study.folder import Study
from seethink.study.learned import EDGE, cut_runs, idle_runs
from seethink.study.results import Contrast
from seethink.train.alarms import RISE, WINDOW


@dataclass(frozen=True, slots=True)
class Findings:
    """What the rules of a study look at."""

    study: Study
    contrasts: Sequence[Contrast] = ()
    """Its planned comparisons, with their verdicts."""

    def has(self, need: str) -> bool:
        """The rules of a study find out themselves: what they need is no single number."""
        return True

    def answers(self) -> Iterator[tuple[str, list[Score]]]:
        """(arm, all answers of its evaluations on the board)."""
        for name, arm in self.study.arms.items():
            if scores := [score for run in arm.of("eval") for score in run.scores]:
                yield name, scores


def study_alarms(study: Study, found: Sequence[Contrast]) -> list[str]:
    """The sentences of all that hold, in the order of the table; `found` are the study's contrasts."""
    return list(raised(STUDY_RULES, Findings(study, found), "report").values())


# ------------------------------------------------------------------------------------------------------------------- the rules


def _learned_nothing(f: Findings) -> Iterator[Facts]:
    for name, seeds in idle_runs(f.study).items():
        if seeds:
            runs = len(f.study.arms[name].of(f.study.arms[name].stages[-1]))
            some = f" in {len(seeds)} of {runs} seeds" if len(seeds) < runs else ""
            yield {"arm": name, "seeds": some, "why": next(iter(seeds.values()))}


def _cut_in_training(f: Findings) -> Iterator[Facts]:
    for name in f.study.arms:
        if cut := cut_runs(f.study, name):
            yield {"arm": name, "why": next(iter(cut.values()))}


def _answers_cut(f: Findings) -> Iterator[Facts]:
    return ({"arm": arm} for arm, scores in f.answers() if all(score.stop == "length" for score in scores))


def _undecided(f: Findings) -> Iterator[Facts]:
    return ({"arm": arm} for arm, scores in f.answers() if all(score.ok is None for score in scores))


def _at_the_edge(f: Findings) -> Iterator[Facts]:
    for arm, scores in f.answers():
        decided = [score.ok for score in scores if score.ok is not None]
        if decided and not EDGE < (right := fmean(decided)) < 1 - EDGE:
            yield {"arm": arm, "edge": "floor" if right < 0.5 else "ceiling", "right": 100 * right}


def _board_in_data(f: Findings) -> Iterator[Facts]:
    for data, items in f.study.board_in_data.items():
        if items:
            yield {"items": items, "board": len(f.study.board) or "the", "data": data}


def _short_of_compute(f: Findings) -> Iterator[Facts]:
    return ({"arm": arm, "beside": beside} for arm, beside in short_of_compute(f.study))


def _below_exploring(f: Findings) -> Iterator[Facts]:
    for c in f.contrasts:
        a, b = f.study.arms[c.a].stages, f.study.arms[c.b].stages
        if c.overall and c.word == "worse" and b and a == ("sft", *b):
            yield {"arm": c.a, "other": c.b, "points": -100 * c.overall.interval.estimate}


def _reward_without_accuracy(f: Findings) -> Iterator[Facts]:
    """As of a run, but over all its seeds and by the whole board, against the model that it started from."""
    for name, arm in f.study.arms.items():
        curves = [[reward for _, reward in run.curve("reward/mean")] for run in arm.of("grpo")]
        rises = [fmean(c[-WINDOW:]) - fmean(c[:WINDOW]) for c in curves if len(c) >= 2 * WINDOW]
        pair = f.study.paired(name, arm.start) if rises and arm.start in f.study.arms else None
        gain = compare(*pair) if pair else None
        if gain and fmean(rises) > RISE and gain.interval.low <= 0 and gain.interval.high < fmean(rises):
            points = 100 * gain.interval.estimate
            yield {"arm": name, "rise": fmean(rises), "points": points, "start": arm.start}


STUDY_RULES = (
    AlarmRule(
        "learned_nothing {arm}", "report", ("a training run",),
        "in some seed no step or round had anything to learn from, or the arm answers word for word as its start",
        "{arm} learned nothing{seeds}: {why}", _learned_nothing,
    ),
    AlarmRule(
        "cut_in_training {arm}", "report", ("a run of grpo",), "every completion of a whole training hit `max_tokens`",
        "{arm}: {why}", _cut_in_training,
    ),
    AlarmRule(
        "all_cut {arm}", "report", ("an evaluation",), "every answer hit `max_tokens`",
        "every answer of {arm} was cut at max_tokens", _answers_cut,
    ),
    AlarmRule(
        "undecided {arm}", "report", ("an evaluation",), "no answer is decided",
        "no answer of {arm} is decided", _undecided,
    ),
    AlarmRule(
        "at_the_edge {arm}", "report", ("an evaluation",), f"at most {100 * EDGE:g} %, or at least {100 * (1 - EDGE):g} %, of the answers are right",
        "{arm} is at the {edge}: {right:.1f} % right", _at_the_edge,
    ),
    AlarmRule(
        "board_in_data {data}", "report", ("board and data",),
        "items of the board stand in training data; also a control of every comparison, counted before the first stage runs",
        "{items} of {board} board items stand in the training data {data}", _board_in_data,
    ),
    AlarmRule(
        "short_of_compute {arm}", "report", ("an arm that explores after imitating",),
        f"no arm beside it spent as much, within {100 * COMPUTE_TOLERANCE:g} %, on exploring alone (generated tokens + {BACKWARD} x trained ones)",
        f"{{arm}} has no compute-matched arm that only explores beside it ({{beside}}; generated tokens + {BACKWARD} x trained ones): "
        "what imitating did is not told apart from what more compute does", _short_of_compute,
    ),
    AlarmRule(
        "below_exploring {arm} {other}", "report", ("a planned comparison of sft, then grpo with grpo",),
        "imitating before exploring is worse than exploring alone",
        "{arm} is below {other}: imitating before exploring cost {points:.1f} points of accuracy", _below_exploring,
    ),
    AlarmRule(
        "reward_without_accuracy {arm}", "report", ("rewards of grpo", "evaluations of the arm and of its start"),
        f"the training reward rose by over {RISE:g} (first {WINDOW} rounds to last), and accuracy on the board by surely less, perhaps by "
        "nothing (95 %)",
        "{arm}: training reward rose by {rise:.2f}, but held-out accuracy did not follow ({points:+.1f} points over {start})",
        _reward_without_accuracy,
    ),
)  # fmt: skip
"""All alarms of a study."""
