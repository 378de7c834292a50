"""`seethink reward score | check | audit | serve`.

    seethink reward score answers.jsonl --out rewards.jsonl
    seethink reward check rl.jsonl
    seethink reward audit answers.jsonl --second math-verify
    seethink reward serve --port 8011

A row of answers is a sample row with a `response`. What a command line may set of `RewardConfig` is under `--reward.`
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.core.nouns import Reward, Sample, sample_from_row
from seethink.core.store import read_jsonl, write_json, write_jsonl
from seethink.core.tags import extract
from seethink.rewards.check import as_row, check_file, tell
from seethink.rewards.config import AuditConfig, CheckConfig, RewardConfig, ScoreConfig, ServeConfig
from seethink.rewards.rewarder import make_scorer, score_batch

CHUNK = 4096
FORMAT = "format"
"""Rows of this kind ask for extraction only: 1 where there is an answer."""


def run_score(config: ScoreConfig, dry_run: bool = False) -> None:
    """Raises UserError for rows that are no samples or have no response."""
    scorer = make_scorer(config.reward)
    counts: Counter[str] = Counter()

    def scored() -> Iterator[dict[str, Any]]:
        rows = _answers(config.input)
        while chunk := list(islice(rows, CHUNK)):
            rated = iter(_score_chunk(chunk, config.reward, scorer))
            for sample, response in chunk:
                reward = next(rated) if sample.kind != FORMAT else _format_reward(response, config.reward)
                counts[f"{sample.kind} {reward.status}"] += 1
                yield {
                    "id": sample.id,
                    "reward": reward.value,
                    "status": reward.status,
                    "answer": reward.answer,
                    "detail": reward.detail,
                }

    if dry_run:
        print(f"reward score: {sum(1 for _ in _answers(config.input))} rows, nothing written")
        return
    written = write_jsonl(config.out, scored())
    scorer.close()
    print(f"reward score: {written} rows, {config.out}")
    for name, count in sorted(counts.items()):
        print(f"  {name}: {count}")


def run_check(config: CheckConfig, dry_run: bool = False) -> None:
    """Raises UserError when there are bad golds, after listing them."""
    results = list(check_file(config.input, config.reward))
    bad = [result for result in results if result is not None]
    if config.out and not dry_run:
        write_jsonl(config.out, map(as_row, bad))
    for line in tell(bad):
        print(line)
    print(f"reward check: {len(results) - len(bad)} of {len(results)} golds are usable")
    if bad:
        raise UserError(
            f"{len(bad)} of {len(results)} golds are unusable", where=config.input, remedy="Repair or drop these rows"
        )


def run_audit(config: AuditConfig, dry_run: bool = False) -> None:
    """Raises UserError for rows that are no samples."""
    from seethink.rewards.audit import audit

    rows = [
        (sample, response) for sample, response in _answers(config.input, need_response=False) if sample.kind != FORMAT
    ]
    if dry_run:
        print(f"reward audit: {len(rows)} rows")
        return
    responses = [response for _, response in rows]
    scorer = make_scorer(config.reward)
    found = audit(
        [sample for sample, _ in rows],
        responses if all(responses) else [],
        config.reward,
        scorer,
        second=config.second != "none",
        examples=config.examples,
        calibration=config.calibration,
    )
    scorer.close()
    if config.out:
        write_json(config.out, found)
    for name, finding in found.items():
        print(
            f"{'ALARM ' if finding.get('alarm') else ''}{name}: {json.dumps(finding, ensure_ascii=False, default=str)}"
        )


def run_serve(config: ServeConfig, dry_run: bool = False) -> None:
    """Raises UserError for an address in use, or an open one without a token."""
    from seethink.rewards.serve import serve

    if not dry_run:
        serve(config.reward, config.host, config.port, config.token_env, config.seconds)


def _answers(path: Path, need_response: bool = True) -> Iterator[tuple[Sample, str]]:
    """Samples and responses of a file, image paths relative to it."""
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        response = row.pop("response", None)
        if response is None and need_response:
            raise UserError("row has no 'response'", where=where, remedy="Write the model's whole text under response")
        kind = row.get("kind")
        sample = sample_from_row(
            {"question": "", "id": str(number), **row, **({"kind": "open"} if kind == FORMAT else {})}, where
        )
        yield _placed(sample, path, FORMAT if kind == FORMAT else sample.kind), str(response or "")


def _placed(sample: Sample, path: Path, kind: str) -> Sample:
    from dataclasses import replace

    return replace(sample, kind=kind, images=tuple(str(Path(path).resolve().parent / image) for image in sample.images))  # type: ignore[arg-type]


def _score_chunk(chunk: list[tuple[Sample, str]], config: RewardConfig, scorer: Any) -> list[Reward]:
    asked = [(sample, response) for sample, response in chunk if sample.kind != FORMAT]
    return score_batch([sample for sample, _ in asked], [response for _, response in asked], config, scorer)


def _format_reward(response: str, config: RewardConfig) -> Reward:
    parsed = extract(response, config.extraction)
    return Reward(float(parsed.status == "ok"), parsed.status, FORMAT, parsed.answer)
