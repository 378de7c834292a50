"""Measure a judge on items with known verdicts, before its verdicts are believed.

    seethink eval judge-check --items items.jsonl --judge.url http://127.0.0.1:8000/v1 --judge.model name --out runs/judge

Items are a JSONL of {"question", "gold", "response", "right"}, with "choices" (texts of options), "form" (letter, letters or value:
how the answer is asked for) and "extraction" (the answer that the response gives) where they are known. Or they are the decided
rows of an evaluation: `--items runs/eval/scores.parquet` asks the judge all that its profile would ask one, rules left out. So
published verdicts become items by one evaluation of `--predictions` with stored extractions.

An answer that the judge cannot find is one that it does not call right, as in a score. Questions without a usable reply are
counted apart; the same command asks them again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from seethink.core.errors import UserError
from seethink.core.nouns import Example, Sample, Trace, Verdict
from seethink.core.run import Run
from seethink.core.stats import wilson
from seethink.core.store import hash_json, read_json, read_jsonl, typed, write_text
from seethink.core.tables import read_table, write_table
from seethink.core.terminal import one_line
from seethink.core.url import public
from seethink.evals.board import Grade, Profile, Response, per_item
from seethink.evals.boards import BOARDS
from seethink.evals.config import JudgeCheckConfig, check_judge
from seethink.evals.judge.judge import open_judge
from seethink.evals.judge.questions import JudgeQuestion, ask_letter, ask_letters, ask_same, ask_value, version
from seethink.evals.verdicts import grade, state

FORMS = {"letter": ask_letter, "letters": ask_letters, "value": ask_value}
SHOWN, CELL = 30, 90
"""Disagreements in judge_check.md, and characters of a text there; the table holds all."""
NO_ANSWER = ("", "z", "zzzzz", "null", "none")
"""How stored extractions say that a response gives no answer."""


class Known(NamedTuple):
    """A response whose verdict is known."""

    response: Response
    right: bool
    extraction: str | None
    """The answer that it gives, where that is known."""


def run(config: JudgeCheckConfig, dry_run: bool = False) -> dict[str, Any] | None:
    """The verb; its summary. Raises UserError for bad items, no judge, one that answers nothing (3), a spent budget (4)."""
    profile, items = read_items(config.items)
    items = items[: config.limit or None]
    if dry_run:
        print(
            f"{len(items)} items, each one question to find its answer and perhaps one to compare it; twice if unusable"
        )
        return None
    if not config.judge.url:
        raise UserError("no judge is named", remedy="Give --judge.url and --judge.model")
    check_judge(config.judge)
    inputs = {"asked": hash_json([version(), [(k.response.sample.question, k.right, k.extraction) for k in items]])}
    with Run.open(config.out, "eval judge-check", config, inputs, overwrite=config.overwrite) as folder:
        if not (before := folder.done and not folder.summary["unusable"]):
            with open_judge(config) as judge:
                assert judge is not None
                grades = grade(profile, [known.response for known in items], judge)
                spent = judge.spending()
            found = measures(items, grades)
            if found["unusable"] == len(items):
                what = f"judge {config.judge.model} gave no usable reply on any of {len(items)} items"
                raise UserError(what, where=public(config.judge.url), remedy="The same command asks them again", code=3)
            summary = {"judge": config.judge.model, "judge_version": version(), **found, **costs(spent)}
            apart = disagreements(items, grades)
            write_table(folder.path("disagreements.parquet"), apart, COLUMNS)
            write_text(folder.path("judge_check.md"), in_markdown(summary, apart))
            folder.finish(**summary)
        print(f"judge-check: {'done before' if before else 'finished'}, {in_words(folder.summary)}, {config.out}")
        return folder.summary


def read_items(path: Path) -> tuple[Profile, list[Known]]:
    """The items of a file, and the profile whose questions they are asked. Raises UserError naming file and row."""
    profile, items = _of_evaluation(path) if path.suffix == ".parquet" else (WITHOUT_RULES, _of_rows(path))
    if not items:
        raise UserError("no items with a known verdict", where=path, remedy="Give a file with at least one")
    return profile, items


def _of_rows(path: Path) -> list[Known]:
    items = []
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        question, gold, text, right = (
            typed(row, name, kind, where)
            for name, kind in (("question", str), ("gold", str), ("response", str), ("right", bool))
        )
        if question is None or not gold or text is None or right is None:
            remedy = "Every item needs question, gold, response and right (true or false)"
            raise UserError("item is not complete", where=where, remedy=remedy)
        choices = row.get("choices") or []
        if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
            raise UserError("choices is not a list of texts", where=where, remedy="Write the options' texts in order")
        form = typed(row, "form", str, where) or ("letter" if choices else "value")
        if form not in FORMS:
            raise UserError(f"no form {form!r}", where=where, remedy=f"Use one of {', '.join(FORMS)}")
        name = str(row.get("id", number))
        kind = "math" if form == "value" else "choice"
        sample = Sample(name, "check", (), question, gold, kind, tuple(choices), meta={"form": form})
        response = Response(sample, Trace(name, "", text))
        items.append(Known(response, right, typed(row, "extraction", str, where)))
    return items


def _of_evaluation(path: Path) -> tuple[Profile, list[Known]]:
    """The decided rows of scores.parquet, its items read from the board's file again; responses without their extraction."""
    settings = read_json(path.with_name("config.json"))
    board = BOARDS.get(settings.get("task", "")) if isinstance(settings, dict) else None
    if board is None or not isinstance(settings.get("data"), str):
        raise UserError("not the scores of an evaluation", where=path, remedy="Give scores.parquet in its own folder")
    rows = read_table(path, ("sample_id", "status", "text", "stop", "tokens", "answer"))
    samples = {}
    for row in board.load(Path(settings["data"]), None):
        if isinstance(row.read, Example):
            samples[row.read.sample.id] = row.read.sample
    items = []
    for row in rows:
        if row["status"] not in ("right", "wrong"):
            continue
        if row["sample_id"] not in samples:
            what = f"item {row['sample_id']!r} is not in {settings['data']}"
            raise UserError(what, where=path, remedy="Put the data of this evaluation back in its place")
        trace = Trace(row["sample_id"], "", row["text"], row["stop"], row["tokens"])
        items.append(Known(Response(samples[row["sample_id"]], trace), row["status"] == "right", row["answer"]))
    used = board.profiles.get(settings.get("profile") or next(iter(board.profiles)), WITHOUT_RULES)
    return (replace(used, read=_nothing) if used.extract else WITHOUT_RULES), items


def _nothing(sample: Sample, text: str) -> None:
    """Rules that find nothing: a judge is asked everything."""


def _extract(sample: Sample, text: str) -> JudgeQuestion:
    return FORMS[sample.meta.get("form", "letter" if sample.kind == "choice" else "value")](sample, text)


def _score(sample: Sample, answer: str) -> Verdict | None:
    """Letters are compared, in any order; of anything else that is not the gold by the letter, only the meaning tells."""
    if sample.kind == "choice":
        return Verdict(sorted(plain(answer)) == sorted(plain(sample.gold)), "letters")
    return Verdict(True, "equal") if plain(answer) in map(plain, sample.golds) else None


WITHOUT_RULES = Profile(_nothing, per_item(_score), extract=_extract, grade=ask_same)


def plain(answer: str) -> str:
    """An answer as it is compared: no case, blanks, commas or outer brackets; "" where it says that there is none."""
    text = re.sub(r"[\s,]+", "", answer.casefold()).strip("()[]$.")
    return "" if text in NO_ANSWER else text


def measures(items: Sequence[Known], grades: Sequence[Grade]) -> dict[str, Any]:
    """Counts, and in percent with 95 % intervals: agreement, false positives of what is wrong, false negatives of what is
    right, answers found alike; Cohen's kappa in [-1, 1]. None where there is nothing to count."""
    usable = [(k, g) for k, g in zip(items, grades, strict=True) if state(g.verdict) != "judge_failed"]
    cells = [(known.right, got.verdict.ok is True) for known, got in usable]
    both, missed, false, neither = (
        cells.count(c) for c in ((True, True), (True, False), (False, True), (False, False))
    )
    read = [(k.extraction, g.answer) for k, g in usable if k.extraction is not None]
    return {
        "items": len(items),
        "unusable": len(items) - len(usable),
        "no_answer_found": sum(got.verdict.ok is None for _, got in usable),
        "right_right": both,
        "right_wrong": missed,
        "wrong_right": false,
        "wrong_wrong": neither,
        **_share("agreement", both + neither, len(cells)),
        **_share("false_positives", false, false + neither),
        **_share("false_negatives", missed, both + missed),
        "kappa": kappa(both, missed, false, neither),
        "extractions_known": len(read),
        **_share("extraction_agreement", sum(plain(a) == plain(b or "") for a, b in read), len(read)),
    }


def kappa(both: int, first: int, second: int, neither: int) -> float | None:
    """Cohen's kappa (1960) of two raters who said yes together, only the first, only the second, neither.

    None where chance alone agrees always (or nothing was rated): then agreement says nothing.
    """
    n = both + first + second + neither
    if not n:
        return None
    chance = ((both + first) * (both + second) + (neither + first) * (neither + second)) / n**2
    return ((both + neither) / n - chance) / (1 - chance) if chance < 1 else None


def costs(spent: list[dict[str, Any]]) -> dict[str, Any]:
    """Of all runs of the folder: calls that were answered, attempts, tokens, USD (None: unknown) and seconds of waiting."""
    sums = {
        name: sum(row[name] or 0 for row in spent)
        for name in ("calls", "attempts", "prompt_tokens", "completion_tokens", "seconds")
    }
    return {**sums, "usd": None if any(row["usd"] is None for row in spent) else sum(row["usd"] for row in spent)}


COLUMNS = ("id", "known", "judged", "reason", "gold", "answer", "extraction", "question", "response")


def disagreements(items: Sequence[Known], grades: Sequence[Grade]) -> list[dict[str, Any]]:
    """Items on which the judge says otherwise, or nothing of use."""
    rows = []
    for known, got in zip(items, grades, strict=True):
        if got.verdict.ok is known.right or (not known.right and state(got.verdict) == "unparsed"):
            continue
        sample, said = known.response.sample, state(got.verdict)
        values = (sample.id, "right" if known.right else "wrong", said, got.verdict.reason, sample.gold, got.answer)
        texts = (known.extraction, sample.question, known.response.trace.text)
        rows.append(dict(zip(COLUMNS, (*values, *texts), strict=True)))
    return rows


def in_words(found: dict[str, Any]) -> str:
    """The numbers in one line."""
    agreement, k = figure(found, "agreement"), found["kappa"]
    said = f"{found['judge']} agrees on {agreement}, kappa {'-' if k is None else format(k, '.3f')}"
    said += f", {found['wrong_right']} false positives, {found['right_wrong']} false negatives"
    return said + (f", no usable reply on {found['unusable']} of {found['items']}" if found["unusable"] else "")


def in_markdown(found: dict[str, Any], apart: Sequence[dict[str, Any]]) -> str:
    """judge_check.md"""
    n, k, usd = found["items"], found["kappa"], found["usd"]
    rows = [
        ("items", f"{n}, no usable reply on {found['unusable']}, no answer found in {found['no_answer_found']}"),
        ("agreement", figure(found, "agreement")),
        ("Cohen's kappa", "-" if k is None else f"{k:.3f}"),
        ("false positives (of known wrong)", f"{found['wrong_right']}, {figure(found, 'false_positives')}"),
        ("false negatives (of known right)", f"{found['right_wrong']}, {figure(found, 'false_negatives')}"),
        ("answers found alike", f"{figure(found, 'extraction_agreement')} of {found['extractions_known']} known"),
        ("calls", f"{found['calls']} answered, {found['attempts']} made"),
        ("tokens", f"{found['prompt_tokens']} prompt, {found['completion_tokens']} completion"),
        ("cost", "price not given" if usd is None else f"{usd:.4f} USD, {1000 * usd / n:.4f} per 1,000 items"),
        ("waiting", f"{found['seconds']:.1f} s, {found['seconds'] / max(1, found['calls']):.2f} s a call"),
    ]
    lines = [f"# Judge {_cell(found['judge'])}", "", "| | |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows), ""]
    if apart:
        shown = ("id", "known", "judged", "gold", "answer", "response")
        lines += [f"## Where it says otherwise: {len(apart)} items", "", f"| {' | '.join(shown)} |", "|---" * 6 + "|"]
        lines += [f"| {' | '.join(_cell(row[name]) for name in shown)} |" for row in apart[:SHOWN]]
        lines += ["", "All of them, whole: disagreements.parquet", ""]
    return "\n".join(lines)


def figure(found: dict[str, Any], name: str) -> str:
    """A share with its interval."""
    if found[name] is None:
        return "-"
    low, high = found[f"{name}_interval"]
    return f"{found[name]:.1f} % [{low:.1f}, {high:.1f}]"


def _share(name: str, of: int, n: int) -> dict[str, Any]:
    interval = wilson(of, n) if n else None
    bounds = [100 * interval.low, 100 * interval.high] if interval else None
    return {name: 100 * interval.estimate if interval else None, f"{name}_interval": bounds}


def _cell(text: Any) -> str:
    """Text for a cell of a Markdown table, whatever a model wrote."""
    line = one_line(str(text if text is not None else "")[: 4 * CELL])
    line = line if len(line) <= CELL else f"{line[:CELL]}..."
    return re.sub(r"([\\`*_{}\[\]<>|#&~$!])", r"\\\1", line)
