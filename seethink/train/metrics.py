"""What is logged of a round: metrics of its rollouts, in all and for each kind, and their rows for rollouts.parquet."""

from __future__ import annotations

from typing import Any

import torch

from seethink.core.stats import clustered
from seethink.rewards.placebo import form_of
from seethink.traces.analyse import hesitation_rate
from seethink.train.advantage import Group


def describe(groups: list[Group]) -> dict[str, Any]:
    """Metrics of the rollouts of one round, which were sampled before its updates.

    So `entropy` of the first row is that of the policy before any. `teacher/kl` estimates KL(policy || teacher), nats a token.
    """
    rollouts = [r for g in groups for r in g.rollouts]
    metrics = summary(groups) | {
        "undecided": sum(r.reward.value is None for r in rollouts),
        "no_format": sum(form_of(r.reward) == "no_format" for r in rollouts) / len(rollouts),
        "markers_per_100_words": hesitation_rate([r.text for r in rollouts]),
        "tokens/generated": sum(len(r.completion.ids) for r in rollouts),
        "tokens/prompt": sum(len(g.prompt.ids) for g in groups),
        "seconds/reward": sum(r.reward.seconds for r in rollouts),
    }
    if taught := [r.by_token for r in rollouts if r.by_token is not None]:
        metrics["teacher/kl"] = -float(torch.cat(taught).mean())
    for kind in sorted({g.sample.kind for g in groups}):
        of_kind = summary([g for g in groups if g.sample.kind == kind])
        metrics |= {f"{name.removesuffix('/mean')}/{kind}": value for name, value in of_kind.items()}
    return metrics


def summary(groups: list[Group]) -> dict[str, Any]:
    """What is worth knowing of all groups, and of those of each kind."""
    rollouts = [r for g in groups for r in g.rollouts]
    decided = [r.reward.value for r in rollouts if r.reward.value is not None]
    tokens = sum(len(r.completion.ids) for r in rollouts)
    return {
        "reward/mean": sum(decided) / len(decided) if decided else None,
        "completion/length": tokens / len(rollouts),
        "completion/cut_share": sum(r.completion.stop == "length" for r in rollouts) / len(rollouts),
        "entropy": float(sum(r.completion.entropy.sum() for r in rollouts)) / tokens,
        "groups/zero_spread": sum(not g.trained for g in groups) / len(groups),
    }


def rewards_of(rows: list[dict[str, Any]], number: int) -> dict[str, Any]:
    """Mean reward of a round with its 95 % interval over prompts, from rows of `rollout_rows`; None where none is decided."""
    mine = [row for row in rows if row["round"] == number]
    decided = [(row["reward"], row["sample_id"]) for row in mine if row["reward"] is not None]
    found = clustered([value for value, _ in decided], [prompt for _, prompt in decided], share=True)
    interval = [found.low, found.high] if found else None
    return {"mean": found and found.estimate, "interval": interval, "decided": len(decided), "rollouts": len(mine)}


def visits(uses: list[dict[str, Any]], local: bool) -> dict[str, float]:
    """Metrics of a local reward model that visits the accelerator to score (a resumed round may find all scores kept)."""
    if not local:
        return {}
    return {
        "seconds/reward_transfer": sum(u["transfer_seconds"] for u in uses),
        "scorer/on_cpu": sum(u["on_cpu"] for u in uses),
    }


def rollout_rows(number: int, groups: list[Group], version: int) -> list[dict[str, Any]]:
    """One row of rollouts.parquet per rollout of a round, see docs/run-folder.md; `version` counts optimiser steps."""
    return [
        {
            "round": number,
            "sample_id": group.sample.id,
            "group": g,
            "text": r.text,
            "stop": r.completion.stop,
            "tokens": len(r.completion.ids),
            "reward": r.reward.value,
            "status": r.reward.status,
            "advantage": r.advantage,
            "entropy": float(r.completion.entropy.mean()),
            "weights_version": version,
        }
        for group in groups
        for g, r in enumerate(group.rollouts)
    ]
