"""A group that is larger than memory: its prompt once, its completions on it, turn by turn.

    forward of the prompt                                                     its graph is kept
    of each turn:  forward of some completions on a copy of the prompt's keys, values and last states that is cut off from the graph
                   backward: gradients of the weights, and of that copy, add up over the turns
    backward of the prompt, once, from the gradients of the copy

The loss is a sum over completions, so by the chain rule these are the gradients of one pass over the whole group, while only the
prompt and one turn have activations. Without gradients the same saves memory alone. Where all completions fit there is one turn,
and prompts and completions are computed together (pack.py). The schedule is that of schedule-level prefix reuse (arXiv 2606.01143).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from seethink.train.batches import micro_batches
from seethink.train.dist import Ranks
from seethink.train.loss import LossParts
from seethink.train.model.pack import Pack, hidden_states, pack
from seethink.train.model.policy import EncodedPrompt, Policy
from seethink.train.model.prefix import Prefix, continued_states, prefill

See = Callable[[], Tensor | None]
"""The image features of all prompts, asked for where they are needed."""
LossOf = Callable[["Turn", Tensor], LossParts]
"""Loss of a turn from the last hidden states [c, hidden] that predict its tokens."""


@dataclass(frozen=True)
class Turn:
    """Completions that are computed at once.

    ids_BG   of each prompt, ids [T] each
    targets  [c] their tokens, on the device
    rows     which of all completion tokens these are
    idle     True: they are computed without weight, while other ranks have turns left
    """

    ids_BG: list[list[Tensor]]
    targets: Tensor
    rows: slice
    idle: bool = False


@dataclass(frozen=True)
class Turns:
    """Completions in turns. `packed` holds the prompts with them where there is one turn, else the prompts alone."""

    packed: Pack
    each: list[Turn]

    @staticmethod
    def of(policy: Policy, prompts: list[EncodedPrompt], completions_BG: list[list[Tensor]], budget: int) -> Turns:
        """Consecutive completions (ids [T]) that fit into `budget` tokens beside all prompts; a longer one has a turn of its own.

        Every rank has as many turns, so all must ask: FSDP gathers weights in each pass.
        """
        flat = [(b, ids) for b, group in enumerate(completions_BG) for ids in group]
        parts = list(micro_batches([len(ids) for _, ids in flat], budget - sum(len(p.ids) for p in prompts)))
        turns = max(policy.ranks.gather([len(parts)]))
        if turns == 1:
            packed = pack(prompts, completions_BG, policy.image_token).to(policy.device)
            return Turns(packed, [Turn(completions_BG, packed.targets, slice(None))])

        def turn(members: list[tuple[int, Tensor]], start: int, idle: bool = False) -> Turn:
            ids_BG = [[ids for owner, ids in members if owner == b] for b in range(len(prompts))]
            targets = torch.cat([ids for _, ids in members]).to(policy.device)
            return Turn(ids_BG, targets, slice(start, start + len(targets)), idle)

        each: list[Turn] = []
        for part in parts:
            each.append(turn([flat[i] for i in part], each[-1].rows.stop if each else 0))
        owner, first = flat[0]
        each += [turn([(owner, first[:1])], 0, idle=True)] * (turns - len(each))
        return Turns(pack(prompts, [[]] * len(prompts), policy.image_token).to(policy.device), each)

    def __len__(self) -> int:
        return len(self.each)

    def __iter__(self) -> Iterator[Turn]:
        return iter(self.each)

    def prefix(self, ranks: Ranks, model, see: See) -> Prefix:
        """The prompts of several turns, computed alone; with their graph where gradients are enabled."""

        made: list[Prefix] = []

        def compute() -> Tensor:
            made.append(prefill(model, self.packed, see()))
            return made[0].states  # where the backward pass enters: FSDP gathers the weights there

        ranks.forward(model, compute)
        return made[0]

    def backward(self, policy: Policy, see: See, prefix: Prefix | None, loss_of: LossOf) -> list[LossParts]:
        """Gradients of the losses of all turns, which are returned, those of idle ones left out.

        `prefix`: the prompts with their graph, where they have been computed already.
        """
        several, shared, found = len(self) > 1, prefix, []
        if several:
            with policy.autocast():
                prefix = prefix or self.prefix(policy.ranks, policy.model, see)
            shared = prefix.leaves()

        def forward(turn: Turn) -> tuple[Tensor, dict[str, Tensor]]:
            parts = loss_of(turn, self.states(policy.model, turn, shared, see))
            return parts.loss, parts.per_token

        for turn in self:
            with policy.autocast():
                loss, per_token = policy.ranks.forward(policy.model, partial(forward, turn))
            loss.backward()
            if not turn.idle:
                found.append(LossParts(loss.detach(), per_token))
        if several and prefix and shared:
            prefix.backward(shared)
        return found

    def states(self, model, turn: Turn, prefix: Prefix | None, see: See) -> Tensor:
        """Last hidden states [c, hidden] that predict the tokens of a turn, on the prefix if there is one."""
        if prefix is None:
            return hidden_states(model, self.packed, see())
        return continued_states(model, prefix, turn.ids_BG)
