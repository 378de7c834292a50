"""Evaluate a model on a board, item by item, resumable.

    seethink eval --model runs/grpo/model --task mathvision --data test.jsonl --out runs/eval
    seethink eval --base_url http://127.0.0.1:8000/v1 --model name --data board.jsonl --out runs/eval
    seethink eval --task logicvista --data dataset.json --predictions answers.jsonl --profile official --out runs/eval

Answers are kept as they come (responses.jsonl), so a killed run continues where it stopped; grades are given at the end, so
the same answers can be scored again under another profile.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from typing import Any

from seethink.ask.client import endpoint_failed
from seethink.core.errors import UserError
from seethink.core.images import hash_pictures
from seethink.core.nouns import Sample, Score, Trace
from seethink.core.preflight import check_pictures, settle, write_drops
from seethink.core.progress import progress
from seethink.core.run import Run, read_log
from seethink.core.store import DataRow, hash_file, hash_folder, hash_json
from seethink.core.tables import write_table
from seethink.data.overlap import data_behind, overlap
from seethink.evals.board import Board, Grade, Response
from seethink.evals.boards import rows
from seethink.evals.boards.find import board_hash, find_board
from seethink.evals.config import EvalConfig, model_of, prompt_in_words, prompt_of
from seethink.evals.metrics import alarms, summarise
from seethink.evals.predictions import read_predictions
from seethink.evals.verdicts import grade, state
from seethink.train.alarms import raise_new
from seethink.train.model.folder import check_folder

INCOMPLETE = "{what}: no score is given (--accept_failures gives one, in which they count as not right)"


def run(config: EvalConfig, dry_run: bool = False) -> dict[str, Any] | None:
    """The verb; its summary. Raises UserError for a bad board, model, endpoint or folder; the same call again resumes."""
    board = find_board(config.task)
    profile_name = named(board.profiles, config.profile, f"profile of {config.task}")
    prompt_name = named(board.prompts, config.prompt, f"prompt of {config.task}")
    if config.predictions is None and not config.base_url:
        check_folder(model_of(config).path)
    elif config.chat_template or config.stop:
        raise UserError("chat_template and stop are settings of a model folder", remedy="Set them at the endpoint")
    samples, drops, board_rows = items(config, board, board.prompts[prompt_name], dry_run)
    if dry_run:
        print(f"{len(samples)} items of {config.data}, at most {config.max_tokens} tokens each")
        print(prompt_in_words(config))
        return None
    inputs = {
        "pictures": "" if config.predictions else hash_pictures(samples),
        "system": prompt_of(config),
        "model": config.model if config.base_url or config.predictions else hash_folder(model_of(config).path),
        "data": hash_file(config.data) if config.task == "rows" else dataset_hash(samples),
        "prompts": hash_json([(s.question, s.choices, s.places) for s in samples]),
        "board": board_hash(config.task),
    }
    with Run.open(config.out, "eval", config, inputs, overwrite=config.overwrite) as folder:
        write_drops(folder, drops)
        before = folder.done and not folder.summary.get("failed") and not folder.summary.get("judge_failed")
        if not before:
            print(
                f"eval: {'predictions of ' + str(config.predictions) if config.predictions else prompt_in_words(config)}"
            )
            raise_new(folder, trained_on(config, samples), None)
            responses = answer(folder, config, board, samples)
            scores = graded(board, profile_name, responses, config)
            write_table(folder.path("scores.parquet"), scores)
            summary = {**described(board, profile_name, prompt_name, inputs, config), **results(board, scores, config)}
            summary["left_out"] = {
                d.sample_id: board.left_out[d.sample_id] for d in drops if d.sample_id in board.left_out
            }
            summary["complete"] = not board.sizes or board_rows in board.sizes
            raise_new(folder, {**alarms(scores), **missing(summary, board, board_rows, config)}, None)
            folder.finish(**summary)
        print(f"eval: {'done before, ' if before else ''}{in_words(folder.summary)}, {config.out}")
        return folder.summary


def named(table: dict[str, Any], name: str, what: str) -> str:
    """The name itself, or the first where none is given. Raises UserError for one that is not there."""
    if name and name not in table:
        raise UserError(f"no {what}: {name!r}", remedy=f"Use one of {', '.join(table)}")
    return name or next(iter(table))


def items(config: EvalConfig, board: Board, asked_as: Any, dry_run: bool) -> tuple[list[Sample], list[Any], int]:
    """(items as they are asked, rows left out, rows of the board). Raises UserError for rows that cannot be used."""
    pictures = None if config.predictions else config.out / "images"
    loaded = list(islice(board.load(config.data, pictures), config.limit or None))
    if not loaded:
        raise UserError("no samples", where=config.data, remedy="Give a board with at least one row")
    known = [row for row in loaded if row.id in board.left_out and isinstance(row.read, UserError)]
    found: list[DataRow] = [row for row in loaded if row not in known]
    if config.predictions is None:
        found, sizes = check_pictures(found)
        if not config.base_url and not dry_run:
            from seethink.evals.local import check_prompts  # here: endpoints are evaluated without torch

            found = check_prompts(config, found, sizes)
    examples, drops = settle(found, config.data, config.skip_bad)
    drops = [*settle(known + found[:1], config.data, True, say=False).drops[: len(known)], *drops] if known else drops
    return [asked_as(example.sample) for example in examples], drops, len(loaded)


def dataset_hash(samples: list[Sample]) -> str:
    """Of what is asked and what is right, in order; not of names of files."""
    return hash_json([(s.id, s.question, s.golds, s.choices, s.kind) for s in samples])


def trained_on(config: EvalConfig, samples: list[Sample]) -> dict[str, str]:
    """{alarm: sentence} where items of the board stand in the data behind a model that was trained here."""
    found = {}
    for data in [] if config.base_url or config.predictions else data_behind(model_of(config).path):
        with suppress(UserError):  # data that cannot be read any more is not known
            if ids := overlap(samples, data):
                what = (
                    f"{len(ids)} of {len(samples)} items of the board stand in {data}, on which this model was trained"
                )
                found[f"board_in_data_{len(found)}"] = what
    return found


def answer(folder: Run, config: EvalConfig, board: Board, samples: list[Sample]) -> list[Response]:
    """One response per item and draw, in order: kept ones, then new ones as they come. A failed call is asked again."""
    if config.predictions:
        return read_predictions(config.predictions, samples, board.left_out, config.model)
    known, every = {sample.id for sample in samples}, len(samples) * config.samples
    kept = [row for row in read_log(folder.path("responses.jsonl")) if row.get("stop") != "error"]
    answered = {(row["sample_id"], row.get("draw", 0)): row for row in kept if row.get("sample_id") in known}
    folder.keep_rows("responses.jsonl", list(answered.values()))
    if len(answered) < every:
        with progress("eval", every, len(answered)) as bar:
            if config.base_url:
                from seethink.evals.answers import ask_endpoint as source
            else:
                from seethink.evals.local import run_model as source  # here: endpoints are evaluated without torch
            for got in source(config, samples, set(answered), bar):
                row = {**asdict(got.trace), "draw": got.draw, "seconds": got.seconds}
                answered[got.sample.id, got.draw] = row
                folder.write_rows("responses.jsonl", [row])
    responses = []
    for sample in samples:
        for draw in range(config.samples):
            row = answered[sample.id, draw]
            trace = Trace(**{name: row[name] for name in ("sample_id", "model", "text", "stop", "tokens")})
            responses.append(Response(sample, trace, draw, row["seconds"]))
    failed = [r.trace.text for r in responses if r.trace.stop == "error"]
    if len(failed) == every:
        raise endpoint_failed(config.base_url, failed[0], every)
    return responses


def graded(board: Board, profile: str, responses: list[Response], config: EvalConfig) -> list[Score]:
    """One Score per response, in order. One that never came is undecided, never wrong."""
    if board is rows.BOARD:
        came = [r for r in responses if r.trace.stop != "error"]
        given = iter(rows.grade(came, config.reward, config.out))
        lost = grade(board.profiles[profile], [r for r in responses if r.trace.stop == "error"])
        undecided = iter(lost)
        grades = [next(undecided if r.trace.stop == "error" else given) for r in responses]
    else:
        from seethink.evals.judge import open_judge

        with open_judge(config) as judge:
            grades = grade(board.profiles[profile], responses, judge)
    return [scored(config, response, one) for response, one in zip(responses, grades, strict=True)]


def scored(config: EvalConfig, response: Response, grade: Grade) -> Score:
    sample, trace = response.sample, response.trace
    return Score(
        board=config.data.stem if config.task == "rows" else config.task,
        part=str(sample.meta.get("part", "all")),
        sample_id=sample.id,
        kind=sample.kind,
        ok=grade.verdict.ok,
        reward=grade.reward,
        status=state(grade.verdict),
        answer=grade.answer,
        text=trace.text,
        stop=trace.stop,
        tokens=trace.tokens,
        seconds=response.seconds,
        reason=grade.verdict.reason,
        decided_by=grade.verdict.by,
        scored=grade.scored,
        level=str(sample.meta.get("level", "")),
        cluster=str(sample.meta.get("cluster", "")),
        draw=response.draw,
    )


def described(board: Board, profile: str, prompt: str, inputs: dict[str, str], config: EvalConfig) -> dict[str, Any]:
    """What a number means nothing without."""
    return {
        "board": board.title,
        "task": config.task,
        "model": config.model or str(config.predictions),
        "profile": profile,
        "quirks": list(board.profiles[profile].quirks),
        "prompt": prompt,
        "dataset_hash": inputs["data"],
        "prompt_hash": inputs["prompts"],
        "system_hash": hash_json(inputs["system"]) if inputs["system"] else "",
        "images": config.images,
        "min_pixels": config.min_pixels,
        "max_pixels": config.max_pixels,
        "max_tokens": config.max_tokens,
        "temperature": config.temperature,
        "samples": config.samples,
        "judge": config.judge.model if config.judge.url else "",
    }


def results(board: Board, scores: list[Score], config: EvalConfig) -> dict[str, Any]:
    """Counts, and what the board's metric makes of them: of several draws the mean. None while answers are missing."""
    from seethink.evals.samples import over_draws

    counts = summarise(scores)
    failed = sum(s.reason == "no_response" and s.stop == "error" for s in scores)
    found = over_draws(board.metric, scores)
    if (failed or counts["judge_failed"]) and not config.accept_failures:
        found = {name: None if isinstance(value, float | list) else value for name, value in found.items()}
    return {**counts, **found, "failed": failed}


def missing(summary: dict[str, Any], board: Board, rows_found: int, config: EvalConfig) -> dict[str, str]:
    """{alarm: sentence} for what keeps a number from being compared."""
    found = {}
    if n := summary["failed"]:
        whose = "have no prediction" if config.predictions else "got no answer from the endpoint"
        again = "" if config.predictions else "; the same command asks for them again"
        found["failed"] = INCOMPLETE.format(what=f"{n} answers {whose}{again}")
    if n := summary["judge_failed"]:
        found["judge_failed"] = INCOMPLETE.format(what=f"the judge gave no usable reply on {n} answers")
    if not summary["complete"]:
        sizes = " or ".join(map(str, board.sizes))
        found["subset"] = f"{rows_found} rows, {board.title} has {sizes}: this number compares with no published one"
    return found


def in_words(summary: dict[str, Any]) -> str:
    """The numbers in one line."""
    score, n = summary.get("score"), summary["n"]
    said = "no score" if score is None else f"score {score:.2f}"
    if summary.get("score_interval"):
        low, high = summary["score_interval"]
        said += f" [{low:.1f}, {high:.1f}]"
    counts = ", ".join(
        f"{summary[name]} {name}" for name in ("right", "wrong", "unparsed", "judge_failed") if summary[name]
    )
    return f"{said}, {summary['board']}: {n} answers ({counts})"
