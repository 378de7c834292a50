"""`seethink reward check`: golds, and what no model would be shown, looked at before training.

    seethink reward check rl.jsonl

A bad gold costs a whole group of rollouts, every time it is drawn. It is good when the rewards can read it and an answer that repeats it is right. The paper's authors report 'A', 'A)' and
'(a)' mixed in one source and solutions with half of an equation in another (App. C.1); both kinds turn up here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from seethink.core.errors import UserError
from seethink.core.nouns import Sample, by_gold, sample_from_row
from seethink.core.store import read_jsonl, refuse_unread, write_jsonl
from seethink.core.tags import compose
from seethink.core.terminal import print_table
from seethink.rewards.config import CheckConfig, RewardConfig
from seethink.rewards.custom import FAILED, AskedReward, load_custom
from seethink.rewards.decision import AnswerText
from seethink.rewards.kinds import RULES
from seethink.rewards.maths.decide import text_only
from seethink.rewards.placebo import refuse_placebo
from seethink.rewards.rewarder import read_answer

SHOWN = 50
USUAL = RewardConfig()
"""For golds looked at without settings; one for all, because making it takes longer than reading a gold."""


class BadGold(NamedTuple):
    """One row that no answer can be judged by, or that no model can be asked."""

    row: int
    id: str
    kind: str
    gold: str
    reason: str


def check_gold(sample: Sample, config: RewardConfig = USUAL) -> str:
    """Why a gold of a sample is unusable, or ''. What only a scorer or a symbolic comparison could read passes."""
    return next(filter(None, (_check_gold(version, config) for version in by_gold(sample))), "")


def _check_gold(sample: Sample, config: RewardConfig) -> str:
    rules = RULES[sample.kind]
    if not sample.gold.strip():
        return "empty gold"
    if config.custom:
        said = load_custom(config.custom)([AskedReward(sample, sample.gold, compose("", sample.gold))])[0]
        if said is not None:  # its business, and its golds
            return said.detail if said.status == FAILED else ""
    if problem := rules.check(sample):
        return problem
    decision = rules.decide(rules.repeated(sample), AnswerText(sample.gold), config)
    if decision is None:
        return ""
    _, unread = read_answer(compose("", sample.gold), config)
    decision = unread or decision
    if decision.value is None:
        return decision.detail
    said = f"{decision.status}: {decision.detail or 'not right'}"
    return "" if decision.value >= 1 else f"an answer that repeats it is {said}"


def check_file(path: Path, config: RewardConfig = USUAL) -> Iterator[tuple[int, Sample | BadGold]]:
    """Number and sample of every row of a data file, or what is wrong with it; rows that are no samples are wrong too."""
    for number, row in read_jsonl(path):
        try:
            sample = sample_from_row({"question": "", "id": str(number), **row}, f"{path}:{number}")
            refuse_unread(row, sample, f"{path}:{number}")
        except UserError as error:
            name, kind, gold = (str(row.get(key, "")) for key in ("id", "kind", "gold"))
            yield number, BadGold(number, name, kind, gold, error.what)
            continue
        reason = check_gold(sample, config)
        yield number, BadGold(number, sample.id, sample.kind, sample.gold[:100], reason) if reason else sample


def say(results: list[tuple[int, Sample | BadGold]], literal: set[int]) -> None:
    """Golds by kind, where there are several or any is unusable."""
    table: dict[str, list[int]] = {}
    for number, found in results:
        row = table.setdefault(found.kind or "(none)", [0, 0, 0])
        row[0] += 1
        row[1] += isinstance(found, BadGold)
        row[2] += number in literal
    if len(table) > 1 or any(bad for _, bad, _ in table.values()):
        rows = [(kind, n, n - bad, bad, text) for kind, (n, bad, text) in sorted(table.items())]
        print_table(("kind", "rows", "usable", "unusable", "read as text only"), rows)


def run(config: CheckConfig, dry_run: bool = False) -> dict[str, int]:
    """The verb; its counts. Raises UserError when there are unusable rows, after listing them."""
    refuse_placebo(config.reward, "reward check")
    results = list(check_file(config.input, config.reward))
    bad = [found for _, found in results if isinstance(found, BadGold)]
    maths = [(number, s) for number, s in results if isinstance(s, Sample) and s.kind == "math"]
    unread = set(text_only([gold for _, sample in maths for gold in sample.golds], config.reward))
    literal = [(number, sample) for number, sample in maths if unread & set(sample.golds)]
    if config.out and not dry_run:
        write_jsonl(config.out, (problem._asdict() for problem in bad))
    for problem in bad[:SHOWN]:
        print(f"  row {problem.row}  {problem.id}  {problem.kind}  gold {problem.gold!r}: {problem.reason}")
    if len(bad) > SHOWN:
        print("  ... (all of them are in the file given by --out)")
    print(f"reward check: finished, {len(results) - len(bad)} of {len(results)} rows are usable")
    say(results, {number for number, _ in literal})
    if literal:
        print(f"  {len(literal)} golds can only be compared as text; any other text is wrong:")
        for number, sample in literal[:SHOWN]:
            print(f"  row {number}  {sample.id}  gold {sample.gold[:100]!r}")
    gone = [(number, path) for number, found in results for path in _gone(found, config.input)]
    if gone:
        rows, (first, path) = len({number for number, _ in gone}), gone[0]
        print(
            f"  ! {rows} rows name pictures that are not here, the first row {first}: {path}; a model cannot be asked them"
        )
    if bad:
        what = f"{len(bad)} of {len(results)} rows are unusable, the first: {bad[0].reason}"
        raise UserError(what, where=f"{config.input}:{bad[0].row}", remedy="Repair or drop these rows")
    return {"rows": len(results), "usable": len(results), "text_only": len(literal), "pictures_gone": len(gone)}


def _gone(found: Sample | BadGold, file: Path) -> list[str]:
    """Pictures of a row, relative to its file, that are no files."""
    images = found.images if isinstance(found, Sample) else ()
    return [image for image in images if not (file.resolve().parent / image).is_file()]
