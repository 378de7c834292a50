"""A prompt with its rollouts, and how much better each did than the others: the advantage of GRPO (paper section 4).

Under a teacher the advantage is another one, see teacher.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from seethink.core.nouns import Reward, Sample
from seethink.train.model.policy import EncodedPrompt
from seethink.train.rollout.decoding import Completion


@dataclass
class Rollout:
    """One completion on its way through a round."""

    completion: Completion
    text: str
    reward: Reward
    before: Tensor
    """[T] log-probabilities before the round's first update: the sampler's, or the policy's own where those are not exact."""
    advantage: float | None = None
    """None where it takes no part in the update: undecided, or in a group without spread. Of a teacher's, the mean over tokens."""
    by_token: Tensor | None = None
    """[T] advantage of each token, where they differ: a teacher has an opinion of each."""
    weight: float = 0.0
    """Of each of its tokens in the loss of its optimiser step."""

    @property
    def advantages(self) -> Tensor:
        """[T] of every token, for a rollout that trains."""
        if self.by_token is not None:
            return self.by_token
        assert self.advantage is not None, "this one does not train"
        return torch.full((len(self.completion.ids),), self.advantage, dtype=torch.float32)


@dataclass
class Group:
    """A prompt of a round with its rollouts."""

    sample: Sample
    prompt: EncodedPrompt
    place: int
    """Which prompt of the round."""
    rollouts: list[Rollout]

    @property
    def trained(self) -> list[Rollout]:
        return [r for r in self.rollouts if r.advantage is not None]

    @property
    def tokens(self) -> int:
        """Of the prompt and of the rollouts that train."""
        return len(self.prompt.ids) + sum(len(r.completion.ids) for r in self.trained)

    def without_pixels(self) -> Group:
        """What the log of a round needs."""
        return replace(self, prompt=replace(self.prompt, pixels=None, grids=None))


def set_advantages(groups: list[Group], scale_by_std: bool, mask_cut: bool = False) -> None:
    """Give every rollout its advantage; with `mask_cut` none to those that were cut, whose rewards are part of the mean.

    A cut completion says little of its tokens: it might have ended well (DAPO, arXiv 2503.14476, section 3.4; TRL's
    mask_truncated_completions).
    """
    for group in groups:
        advantages = group_advantages([r.reward.value for r in group.rollouts], scale_by_std)
        for rollout, advantage in zip(group.rollouts, advantages, strict=True):
            rollout.advantage = None if mask_cut and rollout.completion.stop == "length" else advantage


def group_advantages(rewards: list[float | None], scale_by_std: bool, eps: float = 1e-4) -> list[float | None]:
    """(r - mean) [/ (std + eps)] over the decided rewards of one group, std unbiased as in TRL.

    None for undecided rewards, and for all when fewer than two are decided or all are equal: nothing to learn from.
    """
    decided = torch.tensor([r for r in rewards if r is not None], dtype=torch.float64)
    if len(decided) < 2 or float(decided.max() - decided.min()) < 1e-9:
        return [None] * len(rewards)
    centred = decided - decided.mean()
    if scale_by_std:
        centred = centred / (decided.std() + eps)
    values = iter(centred.tolist())
    return [None if r is None else next(values) for r in rewards]
