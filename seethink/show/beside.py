"""What a report says beside its verdicts.

Published numbers with what is known not to match, measures beyond accuracy, and what an arm must not be taken for: a placebo,
one that never saw the pictures it trained on, a base that stands for more than its own checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from seethink.core.errors import UserError
from seethink.core.stats import Interval, estimate
from seethink.evals.evaluated import read_evaluation
from seethink.evals.published import mismatches
from seethink.evals.published import published as six_benchmarks
from seethink.study.folder import StageRun, Study
from seethink.study.measures import MeasureRow, measure
from seethink.study.published import OURS, PublishedTable, TableRow, published_table
from seethink.study.results import Contrast

PLACEBO = {"none": "no reward at all", "format": "a reward for the format alone", "random": "a coin for a reward"}
"""What training under `reward.placebo` is rewarded by."""


PAPER = "arXiv 2504.11468"  # whose tables the package brings
EMPTY = "Empty thinking"  # its name among the measures
MENTIONED = 0.05  # a kind on which the base leaves its thinking empty this often is named


@dataclass(frozen=True, slots=True)
class BesidePublished:
    """One published row, and what the arm beside it came to."""

    row: TableRow
    ours: Interval | None
    """Accuracy of the arm on the study's own board."""
    benchmarks: list[float | None]
    """A column each: the arm's score there, in percent, where the study ran that benchmark."""


@dataclass(frozen=True, slots=True)
class Beside:
    """A published table beside a study."""

    table: PublishedTable
    source: str
    rows: list[BesidePublished]
    not_matched: list[str]


def beside_published(study: Study) -> Beside | str | None:
    """The published table that the plan names; why it cannot be shown; None where it names none."""
    reference = study.plan.get("published")
    if not reference:
        return None
    try:
        table = published_table(reference, study.folder)
    except UserError as error:
        return str(error)
    rows, notes = [], [f"the numbers of this study are from its own board, {len(study.items)} items of other questions"]
    for row in table.rows:
        arm = row.arm if row.arm in study.arms else ""
        ours = estimate(study.outcomes(arm), share=True) if arm else None
        runs = [study.arms[arm].of(f"eval-{task}") if arm else [] for task in table.columns]
        rows.append(BesidePublished(row, ours, [_score(found) for found in runs]))
        notes += [note for found in runs if found for note in _mismatches(found[0])]
    source = PAPER if reference.startswith(f"{OURS}#") else reference
    return Beside(table, source, rows, [*table.not_matched, *dict.fromkeys(notes)])


def _score(runs: Sequence[StageRun]) -> float | None:
    """Mean over the seeds; None where a seed has no score."""
    scores = [run.number("score") for run in runs]
    known = [score for score in scores if score is not None]
    return fmean(known) if known and len(known) == len(scores) else None


def _mismatches(run: StageRun) -> list[str]:
    """Of a benchmark that ran here."""
    task = run.name.partition("-")[2]
    differs = six_benchmarks().differs.get(task, [])
    return [f"{task}: {note}" for note in [*mismatches(read_evaluation(run.folder)), *differs]]


def notes_of(study: Study) -> dict[str, dict[str, str]]:
    """Arm -> {tag: sentence} of what it must not be taken for, as its runs and those behind it record; only where there is any."""
    notes: dict[str, dict[str, str]] = {}
    for name in study.arms:
        for run in (run for seed in study.arms[name].seeds for run in study.lineage(name, seed)):
            said = notes.setdefault(name, {})
            reward = run.config.get("reward")
            if placebo := isinstance(reward, dict) and reward.get("placebo"):
                said["placebo"] = f"placebo: {PLACEBO.get(str(placebo), placebo)}"
            if (images := run.config.get("images", "own")) != "own":
                said[f"{images} pictures"] = f"{run.name} on {images} pictures"
    return {name: said for name, said in notes.items() if said}


def bases_of(contrasts: Sequence[Contrast]) -> list[str]:
    """`base`, and the others from which comparisons are repeated. Of a comparison from another base, `base` is one of them."""
    return list(dict.fromkeys(["base", *(base for c in contrasts for base in c.elsewhere)]))


def this_checkpoint(contrasts: Sequence[Contrast]) -> str:
    """What `better than base` means on this page."""
    if others := bases_of(contrasts)[1:]:
        return (
            f"Comparisons are repeated from other base checkpoints ({', '.join(others)}) where the plan has their arms."
        )
    return "Every comparison rests on one base checkpoint: what is said of the base is said of this checkpoint alone."


def other_checkpoints(contrasts: Sequence[Contrast]) -> str:
    """What comparisons from so many bases leave open."""
    if len(bases := bases_of(contrasts)) > 1:
        return f"base checkpoints other than these: {', '.join(bases)}"
    return "other base checkpoints than this one: another base seed may come out differently"


def measures_of(study: Study) -> tuple[list[MeasureRow], dict[str, str]]:
    """(rows that at least one arm has, name of a measure that none has -> why the reference lacks it)."""
    rows = measure(study)
    missing = [row for row in rows if not row.measured]
    told = {row.measure.name: row.values.get(study.reference, next(iter(row.values.values()))) for row in missing}
    unmeasured = {name: value.why for name, value in told.items()}
    measured = [row for row in rows if row.measured]
    return measured, {name: why for name, why in unmeasured.items() if all(r.measure.name != name for r in measured)}


def empty_thinking_of(rows: Sequence[MeasureRow]) -> dict[str, dict[str, Interval | None]]:
    """Arm -> kind (and `all`) -> share of answers without a word of thinking."""
    found: dict[str, dict[str, Interval | None]] = {}
    for row in rows:
        for arm, value in row.values.items() if row.measure.name == EMPTY else ():
            found.setdefault(arm, {})[row.row] = value.interval
    return found


def empty_thinking_said(empty: dict[str, dict[str, Interval | None]]) -> str:
    """How often the base answers without thinking, kind by kind, and how often other arms do; empty where it never does."""
    base = {kind: share.estimate for kind, share in empty.get("base", {}).items() if share and kind != "all"}
    worst = {kind: share for kind, share in sorted(base.items(), key=lambda item: -item[1]) if share >= MENTIONED}
    if not worst:
        return ""
    shares = " and ".join(f"{100 * share:.0f} % of {kind}" for kind, share in worst.items())
    others = [share.estimate for arm, kinds in empty.items() if arm != "base" and (share := kinds.get("all"))]
    most = f"; no other arm on more than {100 * max(others):.0f} % of all" if others and max(others) else ""
    most = "; no other arm leaves it empty anywhere" if others and not max(others) else most
    return f"The base leaves its thinking empty on {shares} items{most}."
