"""OpenRLHF: a file with `reward_func`, or the same over HTTP (see `seethink reward serve`).

    --reward.remote_url .../seethink/rewards/adapters/openrlhf.py

Read from OpenRLHF 0.11: `queries` hold prompt and response with special tokens, `labels` the JSON of the truth. The response
is what follows the prompt's last assistant header: cutting by the prompt's length fails for images, whose placeholders are
expanded in the query. Exceptions are only logged there and the reward stays None, so nothing is raised for one sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seethink.core.nouns import Reward, Sample
from seethink.rewards.adapters.common import (
    Undecided,
    check_undecided,
    number,
    sample_from_label,
    shared_rewarder,
    status_shares,
)
from seethink.rewards.rewarder import Rewarder

ASSISTANT_HEADERS = (
    "<|im_start|>assistant\n",
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "<start_of_turn>model\n",
    "[/INST]",
)


def reward_func(
    queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str], undecided: Undecided = "zero", **_: Any
) -> dict[str, Any]:
    """rewards and scores as tensors, and shares of statuses for the log."""
    import torch  # the trainer's own; the same rewards over HTTP need none

    check_undecided(undecided, "OpenRLHF")  # a tensor has no None
    result = reward_lists(queries, prompts, labels, shared_rewarder(), undecided)
    values = torch.tensor(result["rewards"], dtype=torch.float)
    return {**result, "rewards": values, "scores": values}


def reward_lists(
    queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str], rewarder: Rewarder, undecided: Undecided
) -> dict[str, Any]:
    """The same with plain lists, as it travels over HTTP. Raises UserError for a label that is no sample."""
    samples, responses = asked(queries, prompts, labels)
    return told(samples, rewarder.score_batch(samples, responses), undecided)


def asked(
    queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str], first: int = 0
) -> tuple[list[Sample], list[str]]:
    """Samples and responses; samples without an id are numbered from `first`."""
    samples = [sample_from_label(label, id=str(i)) for i, label in enumerate(labels, first)]
    return samples, [response_of(query, prompt) for query, prompt in zip(queries, prompts, strict=True)]


def told(samples: Sequence[Sample], rewards: Sequence[Reward], undecided: Undecided) -> dict[str, Any]:
    """What the trainer gets to know."""
    values = [number(reward, sample, undecided) for reward, sample in zip(rewards, samples, strict=True)]
    return {"rewards": values, "scores": values, "extra_logs": status_shares(rewards)}


def response_of(query: str, prompt: str) -> str:
    """The part of a query that the policy wrote; a header that it wrote itself does not move the cut."""
    for header in ASSISTANT_HEADERS:
        turns = prompt.count(header)
        if turns:
            return header.join(query.split(header)[turns:])
    return query.removeprefix(prompt)
