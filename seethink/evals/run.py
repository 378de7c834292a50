"""Evaluate a model on a board, item by item, resumable.

    seethink eval --model runs/grpo/model --board board.jsonl --out runs/eval
    seethink eval --base_url http://127.0.0.1:8000/v1 --model name --board board.jsonl --out runs/eval

Answers are kept as they come (responses.jsonl), so a killed run continues where it stopped; grades are given at the end.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from typing import Any

from seethink.ask.client import endpoint_failed
from seethink.core.errors import UserError
from seethink.core.images import hash_pictures
from seethink.core.nouns import Sample, Score, Trace, Verdict
from seethink.core.preflight import check_pictures, settle, write_drops
from seethink.core.progress import progress
from seethink.core.run import Run, read_log
from seethink.core.store import hash_folder
from seethink.core.tables import write_table
from seethink.data.overlap import data_behind, overlap
from seethink.evals.answers import ask_endpoint
from seethink.evals.boards import BOARDS
from seethink.evals.boards.board import Board, Grade
from seethink.evals.config import EvalConfig, model_of, prompt_in_words, prompt_of
from seethink.evals.metrics import alarms
from seethink.train.alarms import raise_new
from seethink.train.model.folder import check_folder


def run(config: EvalConfig, dry_run: bool = False) -> None:
    """The verb. Raises UserError for a bad board, model, endpoint or folder; the same call again resumes."""
    board = BOARDS["rows"]
    rows = list(islice(board.load(config.board), config.limit or None))
    if not rows:
        raise UserError("no samples", where=config.board, remedy="Give a board with at least one row")
    if not config.base_url:
        check_folder(model_of(config).path)
    elif config.chat_template or config.stop:
        raise UserError("chat_template and stop are settings of a model folder", remedy="Set them at the endpoint")
    rows, sizes = check_pictures(rows)
    if not config.base_url and not dry_run:
        from seethink.evals.local import check_prompts  # here: endpoints are evaluated without torch

        rows = check_prompts(config, rows, sizes)
    examples, drops = settle(rows, config.board, config.skip_bad)
    samples = [example.sample for example in examples]
    if dry_run:
        print(f"{len(samples)} items of {config.board}, at most {config.max_tokens} tokens each")
        print(prompt_in_words(config))
        return
    inputs = {
        "pictures": hash_pictures(samples),
        "system": prompt_of(config),
        "model": config.model if config.base_url else hash_folder(model_of(config).path),
    }
    with Run.open(config.out, "eval", config, inputs, overwrite=config.overwrite) as folder:
        write_drops(folder, drops)
        before = "done before, " if folder.done and not folder.summary.get("failed") else ""
        if not before:
            print(f"eval: {prompt_in_words(config)}")
            raise_new(folder, trained_on(config, samples), None)
            responses = answer(folder, config, samples)
            failed = [trace.text for trace, _ in responses if trace.stop == "error"]
            if len(failed) == len(samples):
                raise endpoint_failed(config.base_url, failed[0], len(failed))
            scores = grade(board, samples, responses, config)
            raise_new(folder, alarms(scores), None)
            write_table(folder.path("scores.parquet"), scores)
            folder.finish(**board.metric(scores), board=config.board.name, model=config.model, failed=len(failed))
            if failed:
                what = f"{len(failed)} items got no answer from the endpoint ({failed[0]})"
                print(f"{what}; the same command asks for them again")
        accuracy = folder.summary["accuracy"]
        right = "undecided" if accuracy is None else f"{accuracy:.1%}"
        print(f"eval: {before}{right} of {folder.summary['n']} right, {config.out}")


def trained_on(config: EvalConfig, samples: list[Sample]) -> dict[str, str]:
    """{alarm: sentence} where items of the board stand in the data behind a model that was trained here."""
    found = {}
    for data in [] if config.base_url else data_behind(model_of(config).path):
        with suppress(UserError):  # data that cannot be read any more is not known
            if ids := overlap(samples, data):
                what = (
                    f"{len(ids)} of {len(samples)} items of the board stand in {data}, on which this model was trained"
                )
                found[f"board_in_data_{len(found)}"] = what
    return found


def answer(folder: Run, config: EvalConfig, samples: list[Sample]) -> list[tuple[Trace, float]]:
    """(trace, seconds) of every item; what responses.jsonl has not yet, or without an answer, is asked or computed."""
    log = read_log(folder.path("responses.jsonl"))
    answered: dict[str, dict[str, Any]] = {r["sample_id"]: r for r in log if r["stop"] != "error"}
    folder.keep_rows("responses.jsonl", list(answered.values()))
    if len(answered) < len(samples):
        with progress("eval", len(samples), len(answered)) as bar:
            if config.base_url:
                responses = ask_endpoint(config, samples, set(answered), bar)
            else:
                from seethink.evals.local import run_model  # here: endpoints are evaluated without torch

                responses = run_model(config, samples, set(answered), bar)
            for trace, seconds in responses:
                answered[trace.sample_id] = {**asdict(trace), "seconds": seconds}
                folder.write_rows("responses.jsonl", [answered[trace.sample_id]])
    rows = [dict(answered[s.id]) for s in samples]
    seconds = [row.pop("seconds") for row in rows]
    return [(Trace(**row), spent) for row, spent in zip(rows, seconds, strict=True)]


def grade(board: Board, samples: list[Sample], responses: list[tuple[Trace, float]], config: EvalConfig) -> list[Score]:
    """One Score per response, in order. One that never came is undecided, never wrong."""
    came = [(s, trace) for s, (trace, _) in zip(samples, responses, strict=True) if trace.stop != "error"]
    graded = iter(board.grade([s for s, _ in came], [trace for _, trace in came], config))
    lost = Grade(Verdict(None, "endpoint", "no_response"), None, None)
    scores = []
    for sample, (trace, seconds) in zip(samples, responses, strict=True):
        verdict, said, reward = lost if trace.stop == "error" else next(graded)
        scores.append(
            Score(
                board=config.board.stem,
                part=str(sample.meta.get("part", "all")),
                sample_id=sample.id,
                kind=sample.kind,
                ok=verdict.ok,
                reward=reward,
                status=verdict.reason,
                answer=said,
                text=trace.text,
                stop=trace.stop,
                tokens=trace.tokens,
                seconds=seconds,
                by=verdict.by,
            )
        )
    return scores
