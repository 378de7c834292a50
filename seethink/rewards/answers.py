"""A file of answers, and `seethink reward score`, which scores it.

    seethink reward score answers.jsonl --out rewards.jsonl

A row of answers is a sample row with a `response`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from seethink.core.errors import UserError
from seethink.core.nouns import Reward, Sample, sample_from_row
from seethink.core.store import read_jsonl, write_jsonl
from seethink.core.tags import extract
from seethink.core.terminal import between, print_table
from seethink.rewards.config import ScoreConfig
from seethink.rewards.rewarder import Rewarder

CHUNK = 4096
REASON = 60  # characters of an example of why
FORMAT = "format"
"""Rows of this kind ask for extraction only: 1 where there is an answer."""


class Answered(NamedTuple):
    """One line of the file; `kind` is that of the sample, or FORMAT."""

    sample: Sample
    response: str
    kind: str


def run(config: ScoreConfig, dry_run: bool = False) -> dict[str, Any] | None:
    """The verb; counts and mean rewards. Raises UserError for rows that are no samples or have no response."""
    if dry_run:
        print(f"reward score: {sum(1 for _ in read_answers(config.input))} rows, nothing written")
        return
    tally = RewardTally()
    with Rewarder(config.reward) as rewarder:
        written, spent = write_jsonl(config.out, scored(config, rewarder, tally)), rewarder.spending()
    print(f"reward score: finished, {written} rows, {config.out}")
    tally.say()
    for row in spent:
        usd = "price unknown" if row["usd"] is None else f"{row['usd']:.4f} USD"
        print(f"  {row['step']} {row['model']}: {row['calls']} calls, {usd}")
    return {"out": str(config.out), "rows": written, **tally.summary(), "spend": spent}


def scored(config: ScoreConfig, rewarder: Rewarder, tally: RewardTally) -> Iterator[dict[str, Any]]:
    """A row of rewards for every row of answers, in order."""
    rows = read_answers(config.input)
    while chunk := list(islice(rows, CHUNK)):
        asked = [row for row in chunk if row.kind != FORMAT]
        rated = iter(rewarder.score_batch([row.sample for row in asked], [row.response for row in asked]))
        for row in chunk:
            if row.kind == FORMAT:
                parsed = extract(row.response, config.reward.extraction)
                reward = Reward(float(parsed.status == "ok"), parsed.status, FORMAT, parsed.answer)
            else:
                reward = next(rated)
            tally.add(row.sample.id, row.kind, reward)
            said = {"status": reward.status, "answer": reward.answer, "detail": reward.detail}
            yield {"id": row.sample.id, "reward": reward.value, **said}


class RewardTally:
    """Rewards by kind and status, as they come."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.values: dict[str, list[tuple[str, float]]] = {}
        """kind -> (sample, reward) of what is decided"""
        self.why: dict[tuple[str, str], str] = {}
        """The detail that came first with a kind and status."""

    def add(self, sample_id: str, kind: str, reward: Reward) -> None:
        self.counts[kind, reward.status] += 1
        self.values.setdefault(kind, [])
        if reward.value is not None:
            self.values[kind].append((sample_id, reward.value))
        if reward.detail:
            self.why.setdefault((kind, reward.status), reward.detail)

    def summary(self) -> dict[str, Any]:
        """Counts by kind and status; the mean over decided rewards in all and by kind, with 95 % intervals over samples."""
        counts = {f"{kind} {status}": n for (kind, status), n in sorted(self.counts.items())}
        by_kind = {kind: self._mean([kind]) for kind in sorted(self.values)}
        return {"counts": counts, **self._mean(list(self.values)), "by_kind": by_kind}

    def _mean(self, kinds: list[str]) -> dict[str, Any]:
        from seethink.core.stats import clustered  # here: rewards are also given where no numbers are needed

        found = [value for kind in kinds for value in self.values[kind]]
        rows = sum(n for (kind, _), n in self.counts.items() if kind in kinds)
        mean = clustered([value for _, value in found], [name for name, _ in found], share=True)
        return {
            "decided": len(found),
            "undecided": rows - len(found),
            "mean_reward": mean and mean.estimate,
            "mean_reward_interval": mean and [mean.low, mean.high],
        }

    def say(self) -> None:
        """The same as tables, undecided apart, and an example of why for every status."""
        found = self.summary()
        rows = [(kind, row) for kind, row in found["by_kind"].items()]
        cells = [
            (name, r["decided"], r["undecided"], between(r["mean_reward"], r["mean_reward_interval"], 3) or "undecided")
            for name, r in [("all", found), *(rows if len(rows) > 1 else [])]
        ]
        print_table(("", "decided", "undecided", "mean reward [95 %]"), cells)
        print()
        statuses = [(*key, self.why.get(key, "")[:REASON], n) for key, n in sorted(self.counts.items())]
        print_table(("kind", "status", "for example", "rows"), statuses, texts=3)


def read_answers(path: Path, need_response: bool = True) -> Iterator[Answered]:
    """Rows of a file, image paths relative to it. Raises UserError naming the row at fault."""
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        response = row.pop("response", None)
        if response is None and need_response:
            raise UserError("row has no 'response'", where=where, remedy="Write the model's whole text under response")
        if not isinstance(response, str | None):
            raise UserError("response is not a text", where=where, remedy="Write the model's whole text under response")
        as_sample = {**row, "kind": "open"} if row.get("kind") == FORMAT else row
        sample = sample_from_row({"question": "", "id": str(number), **as_sample}, where)
        images = tuple(str(path.resolve().parent / image) for image in sample.images)
        kind = FORMAT if row.get("kind") == FORMAT else sample.kind
        yield Answered(replace(sample, images=images), response or "", kind)
