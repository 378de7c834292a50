"""Evaluate a model on a board, item by item, resumable.

    seethink eval --model runs/grpo/model --task mathvision --data test.jsonl --out runs/eval
    seethink eval --base_url http://127.0.0.1:8000/v1 --model name --data board.jsonl --out runs/eval
    seethink eval --task logicvista --data dataset.json --predictions answers.jsonl --profile official --out runs/eval

Answers are kept as they come (responses.jsonl), so a killed run continues where it stopped; grades are given at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from seethink.ask.client import endpoint_failed
from seethink.core.errors import UserError
from seethink.core.nouns import Sample, Score
from seethink.core.overlap import overlap
from seethink.core.preflight import write_drops
from seethink.core.run import Run
from seethink.core.tables import write_table
from seethink.data.behind import data_behind
from seethink.evals.answers import responses as log
from seethink.evals.answers.endpoint import ask_endpoint, questions, spending
from seethink.evals.answers.predictions import read_predictions
from seethink.evals.board import Board, Grade, Response
from seethink.evals.boards import rows
from seethink.evals.boards.find import find_board
from seethink.evals.config import EvalConfig, check_judge, model_of, prompt_in_words
from seethink.evals.items import TAKEN, Items, inputs_of, named, not_exchanged, read_items, read_rows, shown, way_to_ask
from seethink.evals.metrics import alarms
from seethink.evals.preview import say_plan
from seethink.evals.summary import described, in_words, missing, results, say, whole
from seethink.evals.verdicts import grade, state
from seethink.train.alarms import raise_new
from seethink.train.model.folder import check_folder, pixel_budget

T = TypeVar("T")


class OneProcess:
    """`train.dist.Ranks` of a process alone, without torch."""

    rank, world, first = 0, 1, True

    def of_first(self, value: T) -> T:
        return value

    def together(self) -> AbstractContextManager[None]:
        return nullcontext()

    def open(self, run: Callable[[], Run]) -> Run:
        return run()


def run(config: EvalConfig, dry_run: bool = False) -> dict[str, Any] | None:
    """The verb; its summary, None of a dry run and on other ranks than the first.

    Raises UserError for a bad board, model, endpoint or folder; the same call again resumes.
    """
    check_judge(config.judge)
    local = config.predictions is None and not config.base_url
    if local:
        check_folder(model_of(config).path)
        pixel_budget(model_of(config).path, config.min_pixels, config.max_pixels)
        if config.against:
            check_folder(config.against)
    elif config.chat_template or config.stop:
        raise UserError("chat_template and stop are settings of a model folder", remedy="Set them at the endpoint")
    if dry_run:
        return preview(config, local)
    if not local:
        return evaluate(config, OneProcess())
    from seethink.train.dist import join  # here: endpoints are evaluated without torch

    with join(config.device) as ranks:
        return evaluate(config, ranks)


def preview(config: EvalConfig, local: bool) -> None:
    """Says what would be done, and of a model here what memory it takes."""
    board = find_board(config.task)
    prompt, ask = way_to_ask(config, board)
    profile = named(board.profiles, config.profile, f"profile of {config.task}")
    with TemporaryDirectory() as taken:
        items = read_items(config, board, ask, Path(taken), True)
        say_plan(config, board, items, profile, prompt)
        if local and config.engine == "local":
            from seethink.evals.answers.local import memory_in_words  # here: endpoints are evaluated without torch

            print(memory_in_words(config, items.samples, items.sizes))


def evaluate(config: EvalConfig, ranks: Any) -> dict[str, Any] | None:
    """Answers from all ranks, graded and reported by the first."""
    board, items, profile, inputs = find_board(config.task), None, "", {}
    with ranks.together():
        if ranks.first:
            prompt, ask = way_to_ask(config, board)
            profile = named(board.profiles, config.profile, f"profile of {config.task}")
            items = read_items(config, board, ask, config.out / TAKEN, False)
            inputs = inputs_of(config, items, prompt)
    items = ranks.of_first(items)
    with ranks.open(lambda: opened(config, board, inputs)) as folder:
        summary = folder.summary if ranks.first and folder.done else {}
        before = bool(summary) and not summary.get("failed") and not summary.get("judge_failed")
        if ranks.of_first(before):
            if ranks.first:
                print(f"eval: done before, {in_words(summary)}, {config.out}")
                say(summary)
            return summary if ranks.first else None
        if ranks.first:
            folder.path("alarms.jsonl").unlink(missing_ok=True)  # what was missing may be there now
            write_drops(folder, items.drops)
            whose = f"predictions of {config.predictions}" if config.predictions else prompt_in_words(config)
            print(f"eval: {whose}")
            raise_new(folder, {**trained_on(config, items.own), **not_exchanged(config, items)}, None)
        responses = answer(folder, config, board, items, ranks)
        if not ranks.first:
            return None
        scores = graded(board, profile, responses, config)
        write_table(folder.path("scores.parquet"), scores)
        summary = {**described(board, profile, inputs, config), **results(board, scores, config)}
        summary["left_out"] = {d.sample_id: d.detail for d in items.drops if d.reason == "left_out"}
        summary["dropped"] = len(items.drops) - len(summary["left_out"])
        summary["complete"] = whole(board, items, summary)
        summary["spending"] = spending(config.out)
        raise_new(folder, {**alarms(scores), **missing(summary, board, items, config)}, None)
        folder.finish(**summary)
        print(f"eval: finished, {in_words(summary)}, {config.out}")
        say(folder.summary)
        return folder.summary


def opened(config: EvalConfig, board: Board, inputs: dict[str, str]) -> Run:
    """The run folder."""
    folder = Run.open(config.out, "eval", config, inputs, overwrite=config.overwrite)
    if (
        config.overwrite and not config.predictions
    ):  # which may have emptied it, also of the pictures that were taken out of the board's file
        read_rows(config, board, config.out / TAKEN)
    return folder


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


def answer(folder: Run, config: EvalConfig, board: Board, items: Items, ranks: Any) -> list[Response]:
    """One response per item and draw, in order, on the first rank: kept ones, then new ones as they come.

    A call that failed is asked again.
    """
    if config.predictions:
        return read_predictions(config.predictions, items.own, board.left_out, config.model)
    samples, answered = [], {}
    with ranks.together():
        if ranks.first:
            samples, answered = shown(config, items), log.gather(folder, items.samples, config.samples)
    samples, known = ranks.of_first((samples, set(answered)))
    name = log.LOG if ranks.world == 1 else f"responses-{ranks.rank}.jsonl"
    with ranks.together(), log.log(folder.path(name), answered) as keep:
        if config.base_url:
            waiting = [q for q in questions(samples, config.samples) if (q[0].id, q[1]) not in known]
            ask_endpoint(config, waiting, len(known), keep)
        else:
            from seethink.evals.answers.local import run_model

            run_model(config, samples, known, ranks, keep)
    if not ranks.first:
        return []
    answered = log.gather(folder, items.samples, config.samples) if ranks.world > 1 else answered
    responses = log.settle(folder, items.own, answered, config.samples)
    failed = [r.trace.text for r in responses if r.trace.stop == "error"]
    if len(failed) == len(responses):
        raise endpoint_failed(config.base_url, failed[0], len(failed))
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
        from seethink.evals.judge.judge import open_judge

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
        entropy=response.entropy,
        kl=response.kl,
    )
