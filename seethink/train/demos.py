"""Demonstrations that GRPO imitates between exploring: which ones in which round, so that a resumed run draws the same."""

from __future__ import annotations

from dataclasses import dataclass

from seethink.core.errors import UserError
from seethink.core.nouns import Example
from seethink.train.batches import data_order
from seethink.train.config import DemosConfig, GRPOConfig


@dataclass(frozen=True)
class Demos:
    """Examples in the order in which they are drawn; `steps`: optimiser steps with demonstrations in a round that has any."""

    drawn: list[Example]
    config: DemosConfig
    steps: int

    def of_round(self, number: int) -> list[list[Example]]:
        """The examples of each of these steps of round `number`, which counts from 0; empty where it has none."""
        if not self.drawn or (number + 1) % self.config.every:
            return []
        first = number // self.config.every * self.steps
        size = self.config.batch
        return [self.drawn[step * size : (step + 1) * size] for step in range(first, first + self.steps)]


def draw_demos(examples: list[Example], config: GRPOConfig) -> Demos:
    """Whole shuffled passes over the demonstrations, as `data_order` makes them, for all rounds of a run."""
    steps = 1 if config.demos.apart else updates_of(config)
    total = config.rounds // config.demos.every * steps * config.demos.batch
    order = data_order([e.sample.id for e in examples], total, config.seed) if examples else []
    return Demos([examples[i] for i in order], config.demos, steps)


def updates_of(config: GRPOConfig) -> int:
    """Optimiser steps of a round for its rollouts."""
    return -(-config.prompts // config.update_prompts)


def optimiser_steps(config: GRPOConfig) -> int:
    """Optimiser steps of a run, those for demonstrations alone included."""
    alone = config.rounds // config.demos.every if config.demos.data and config.demos.apart else 0
    return config.rounds * updates_of(config) + alone


def refuse_ignored(config: GRPOConfig) -> None:
    """Raises UserError for settings of demonstrations that would do nothing."""
    if config.demos.data is None and config.demos != DemosConfig():
        raise UserError("settings of demonstrations, but none are given", where="demos", remedy="Give --demos.data")
    if config.demos.every > config.rounds:
        what = f"every {config.demos.every} rounds, but there are {config.rounds}: no demonstration would be seen"
        raise UserError(what, where="demos.every", remedy="Give a smaller one")
