"""An evaluation as the prediction table that VLMEvalKit scores: the columns of its own table, and `prediction`.

Its rules and its judge then read our answers, in its own environment. `prediction` is the part of a response that we scored,
as its wrapper of the paper's checkpoints hands on what stands in one pair of answer tags; an answer that never came has its
mark of failure. Where the evaluation read another file than VLMEvalKit's, the columns that its scorers read are written from
that one. `index` is then a board's own number, which its evaluation alone never looks up, except We-Math's, which takes the
answer from the row of that index: this board is refused without its table.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.core.nouns import Sample, Score
from seethink.core.prompt import prompt_text
from seethink.core.store import well_formed
from seethink.evals.board import Board
from seethink.evals.evaluated import Evaluated, board_rows
from seethink.evals.export.asked import asked, data_of, finished_at, model_name
from seethink.evals.files.records import read_records

Columns = dict[str, Any]
FAILED = "Failed to obtain answer via API."
"""What VLMEvalKit writes, and looks for, where a model gave no answer."""
MISSING = {
    "",
    "#N/A",
    "#N/A N/A",
    "#NA",
    "<NA>",
    "N/A",
    "NA",
    "NULL",
    "NaN",
    "None",
    "n/a",
    "nan",
    "null",
    "-NaN",
    "-nan",
}
"""Texts that pandas reads as no text at all, on which its scorers fail; a blank before them keeps them texts."""
SAME_GOLD = 0.01
"""Share of items whose answers may differ between two files of one board: an option that stands there twice, a repaired gold."""
SEEDS = 501
"""Questions of DynaMath, of which each has ten variants."""


def mathvista(sample: Sample, row: Columns) -> Columns:
    options, meta = row["choices"] or [], row["metadata"]
    of_choice = row["question_type"] == "multi_choice"
    return {
        "index": int(sample.id),
        "choices": repr(list(options)),
        "answer": row["answer"],
        "answer_option": chr(ord("A") + list(options).index(row["answer"])) if of_choice else "",
        "question_type": row["question_type"],
        "answer_type": row["answer_type"],
        "task": meta["task"],
        "skills": repr(list(meta["skills"])),
    }


def mathvision(sample: Sample, row: Columns) -> Columns:
    return {
        "index": int(sample.id),
        "choices": repr(list(row["options"])),
        "answer": row["answer"],
        "category": row["subject"],
    }


def mathverse(sample: Sample, row: Columns) -> Columns:
    """`metadata` is turned into JSON there by exchanging quotes, so that an apostrophe in it must not be one."""
    return {
        "index": int(row["sample_index"]),
        "problem_index": row["problem_index"],
        "problem_version": row["problem_version"],
        "answer": row["answer"],
        "question_type": row["question_type"],
        "question_for_eval": row["question_for_eval"],
        "query_cot": row.get("query_cot", ""),
        "metadata": json.dumps(row["metadata"], ensure_ascii=False).replace("'", "\N{RIGHT SINGLE QUOTATION MARK}"),
    }


def dynamath(sample: Sample, row: Columns) -> Columns:
    """The worst case there is looked up by the index of the first variant, which therefore is the question's number."""
    question, variant = map(int, sample.id.split("/"))
    return {
        "index": (variant - 1) * SEEDS + question,
        "qid": question,
        "varid": variant,
        "answer": row["ground_truth"] if "ground_truth" in row else row["answer"],
        "answer_type": row["answer_type"],
        "subject": row["subject"],
        "knowledge_level": row["knowledge_level"] if "knowledge_level" in row else row["level"],
    }


def wemath(sample: Sample, row: Columns) -> Columns:
    raise KeyError("index")


def logicvista(sample: Sample, row: Columns) -> Columns:
    return {
        "index": int(sample.id.removeprefix("v1_")),
        "answer": row["answer"],
        "skill": repr(list(row["skill"])),
    }


TARGETS: dict[str, tuple[str, Callable[[Sample, Columns], Columns], tuple[str, ...]]] = {
    "mathvista": ("MathVista_MINI", mathvista, ("choices", "answer", "answer_option", "question_type", "answer_type", "task", "skills")),
    "mathvision": ("MathVision", mathvision, ("choices", "answer", "category")),
    "mathverse": ("MathVerse_MINI_Vision_Only", mathverse, ("answer", "question_for_eval", "metadata", "problem_version")),
    "dynamath": ("DynaMath", dynamath, ("qid", "varid", "answer", "answer_type", "subject", "knowledge_level")),
    "wemath": ("WeMath", wemath, ("key", "answer")),
    "logicvista": ("LogicVista", logicvista, ("answer", "skill")),
}  # fmt: skip
"""Task -> VLMEvalKit's data set, its columns from another file's row, the columns that its scorers read beside index and
question."""


def table_text(found: Evaluated, board: Board, table: Path | None) -> str:
    """Tab-separated text, all of it quoted, as pandas reads it. Raises UserError naming the row and column at fault."""
    _, build, columns = target(found)
    data, samples = data_of(found), asked(board, found)
    if table:
        refuse_other_board(board, found, samples, table)
        data = table
    published = rows_of(board, found, data)
    scores = [score for score in found.scores if score.draw == 0]
    rows = []
    for score in scores:
        sample, (where, row) = samples[score.sample_id], published[score.sample_id]
        try:
            if data.suffix.lower() != ".tsv":
                row = {"question": prompt_text(sample), **build(sample, row)}
            if missing := [name for name in ("index", "question", *columns) if name not in row]:
                raise KeyError(missing[0])
        except KeyError as error:
            what = f"no column {error.args[0]!r}, which VLMEvalKit reads"
            raise UserError(what, where=where, remedy="Give its own TSV of the board: --table") from None
        except (ValueError, TypeError, AttributeError) as error:
            what = f"row is not as published ({str(error)[:100]})"
            raise UserError(what, where=where, remedy="Give VLMEvalKit's own TSV of the board: --table") from None
        rows.append({**row, "prediction": prediction(score)})
    if len(scores) < len(found.scores):
        print(f"  of several answers to an item the first is written: {len(scores)} of {len(found.scores)}")
    return written(rows)


def refuse_other_board(board: Board, found: Evaluated, samples: dict[str, Sample], table: Path) -> None:
    """Raises UserError for a table that is no TSV, lacks items that were evaluated, or has other answers to them."""
    if table.suffix.lower() != ".tsv":
        raise UserError("no TSV", where=table, remedy="Give the table that VLMEvalKit keeps in LMUData")
    theirs = {
        row.id: row.read.sample for row in board_rows(board, found.folder, table) if not isinstance(row.read, UserError)
    }
    remedy = "Give the table of this very board"
    if missing := [name for name in samples if name not in theirs]:
        raise UserError(f"{len(missing)} items are not in this table, {missing[0]!r}", where=table, remedy=remedy)
    other = [name for name, sample in samples.items() if theirs[name].gold != sample.gold]
    if len(other) > SAME_GOLD * len(samples):
        what = f"{len(other)} of {len(samples)} items have other answers in this table, {other[0]!r}"
        raise UserError(what, where=table, remedy=remedy)


def rows_of(board: Board, found: Evaluated, data: Path) -> dict[str, tuple[str, Columns]]:
    """id of an item -> (file:row, what stands there), without pictures."""
    places = {row.where: row.id for row in board_rows(board, found.folder, data)}
    files = dict.fromkeys(Path(where.rpartition(":")[0]) for where in places)
    return {
        places[record.where]: (record.where, record.row)
        for file in files
        for record in read_records(file, names=("decoded_image", "image"))
        if record.where in places
    }


def prediction(score: Score) -> str:
    """What was scored, or the mark of an answer that never came."""
    said = score.text if score.scored is None else score.scored
    return FAILED if score.stop == "error" else f" {said}" if said in MISSING else said


def written(rows: list[Columns]) -> str:
    """Text of the table. NUL, at which its reader would stop, becomes the sign for what cannot be shown."""
    text = io.StringIO(newline="")
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name != "prediction"]
    table = csv.DictWriter(text, [*names, "prediction"], delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
    table.writeheader()
    for row in rows:
        table.writerow(
            {name: str(well_formed(value)).replace("\0", "\N{REPLACEMENT CHARACTER}") for name, value in row.items()}
        )
    return text.getvalue()


def target(found: Evaluated) -> tuple[str, Callable[[Sample, Columns], Columns], tuple[str, ...]]:
    """Raises UserError for a board that VLMEvalKit does not have."""
    if found.task not in TARGETS:
        raise UserError(
            f"VLMEvalKit has no board {found.task!r}", where=found.folder, remedy=f"It has {', '.join(TARGETS)}"
        )
    return TARGETS[found.task]


def name_of(found: Evaluated) -> str:
    """The model as a file name."""
    return re.sub(r"[^\w.-]+", "-", model_name(found).replace("/", "--")).strip("-.") or "model"


def table_path(found: Evaluated, out: Path) -> Path:
    """Where VLMEvalKit looks for it below its work folder; a name that ends in .tsv is taken as it is."""
    return out if out.suffix == ".tsv" else out / place(found)


def place(found: Evaluated) -> Path:
    """model/run/model_dataset.tsv, the run named by date and hash."""
    name, date = name_of(found), finished_at(found)[:10].replace("-", "")
    return Path(name, f"T{date}_G{found.manifest['key'][:8]}", f"{name}_{target(found)[0]}.tsv")


def command(found: Evaluated, out: Path) -> str:
    """What to call in VLMEvalKit's environment."""
    if out.suffix == ".tsv":
        return f"VLMEvalKit looks for it as WORK_DIR/{place(found)}"
    return (
        f"PRED_FORMAT=tsv python run.py --mode eval --data {target(found)[0]} --model {name_of(found)} "
        f"--work-dir {out.absolute()} --judge NAME"
    )
