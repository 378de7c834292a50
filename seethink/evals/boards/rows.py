"""A board of our own: JSONL of samples, each graded by the reward of its kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from seethink.core.nouns import Sample, Verdict
from seethink.core.store import DataRow, read_examples
from seethink.evals.board import Board, Grade, Profile, Response
from seethink.evals.metrics import right_share
from seethink.rewards import RewardConfig, Rewarder


def load(path: Path, pictures: Path | None = None) -> Iterator[DataRow]:
    return read_examples(path)


def grade(responses: Sequence[Response], config: RewardConfig, folder: Path) -> list[Grade]:
    """By rules or the user's own reward; what an open answer says, by the scorer, whose scores and calls are kept in `folder`."""
    grades = []
    with Rewarder(config, scores=folder / "scores.sqlite", ledger=folder / "ledger.sqlite") as rewarder:
        rewards = rewarder.score_batch([r.sample for r in responses], [r.trace.text for r in responses])
        for reward in rewards:
            scored = reward.kind == "open" and reward.status in ("ok", "scorer_error")
            reason = {"ok": "", "scorer_error": "grader_failed"}.get(reward.status, reward.status)
            verdict = Verdict(rewarder.is_correct(reward), config.open.scorer if scored else "rule", reason)
            if config.custom and reward.answer is not None:  # or the rules, to which it left the answer
                verdict = replace(verdict, by=config.custom)
            grades.append(Grade(verdict, reward.answer, reward.value))
    return grades


def as_it_is(sample: Sample) -> Sample:
    return sample


BOARD = Board(
    title="own rows",
    load=load,
    profiles={"strict": Profile(read=lambda sample, text: None, score=lambda pairs: [None] * len(pairs))},
    prompts={"plain": as_it_is},
    metric=right_share,
)
"""Its profile is `grade`: rewards know partial credit, which no other board has."""
