"""The same folder again: which settings a run keeps, and which may change because nothing that is done hangs on them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TypeVar

from seethink.core.config import identity
from seethink.core.errors import UserError
from seethink.core.store import read_record
from seethink.train.config import GRPOConfig, SFTConfig, TrainingConfig
from seethink.train.demos import optimiser_steps
from seethink.train.dist import Ranks
from seethink.train.optimiser import learning_rate

ROWS = {"data", "pictures"}
LENGTH = {"rounds", "epochs", "optim.decay_steps"}
MEMORY = {"micro_tokens", "model.checkpoint_layers"}
C = TypeVar("C", bound=TrainingConfig)


def as_begun(config: C, ranks: Ranks) -> C:
    """The settings; those of MEMORY that the command leaves open are as the run in the folder has them, on all ranks.

    They may have been chosen for the GPU that it began on. Raises UserError for a record that cannot be read.
    """
    kept = None
    with ranks.together():
        if ranks.first and (config.out / "manifest.json").is_file():
            kept = _as_recorded(config)
    kept = ranks.of_first((kept.micro_tokens, kept.model.checkpoint_layers) if kept else None)
    if kept is None:
        return config
    found = with_memory(config, *kept)
    if found != config and ranks.first:
        again = "computed again" if kept[1] else "kept"
        print(f"as this run began: {kept[0]} tokens at once, activations of layers {again}", file=sys.stderr)
    return found


def with_memory(config: C, micro_tokens: int, checkpoint_layers: bool) -> C:
    """The settings with these, which count as given."""
    model = config.model.model_copy(update={"checkpoint_layers": checkpoint_layers})
    return config.model_copy(update={"micro_tokens": micro_tokens, "model": model})


def open_settings(config: TrainingConfig) -> tuple[bool, bool]:
    """Whether the command leaves `micro_tokens` open, and `checkpoint_layers`."""
    return "micro_tokens" not in config.model_fields_set, "checkpoint_layers" not in config.model.model_fields_set


def _as_recorded(config: C) -> C | None:
    """With the settings of the folder's run; None where `overwrite` starts another one, which chooses for itself."""
    manifest, before = (read_record(config.out / name) for name in ("manifest.json", "config.json"))
    tokens, again = before.get("micro_tokens"), before.get("model", {}).get("checkpoint_layers")
    if not (isinstance(tokens, int) and isinstance(again, bool)):
        return None  # of another verb, or none of ours: it is refused when it is opened
    free = open_settings(config)
    found = with_memory(
        config, tokens if free[0] else config.micro_tokens, again if free[1] else config.model.checkpoint_layers
    )
    same = identity(found) == manifest["config"] and Path(before["model"]["path"]) == config.model.path
    return None if config.overwrite and not same else found


def may_go_on(
    changed: set[str], config: SFTConfig | GRPOConfig, used: int, before: list[str], marks: list[str]
) -> bool:
    """Whether a run goes on under what has changed: settings that change no result, its length, rows that it has not used.

    `used` steps or rounds are done; `before` and `marks` are the `row_marks` of then and now. Raises UserError where a
    change of length alone is in the way, with what would help.
    """
    done, out = (config.out / "done.json").exists(), config.out
    if not changed <= ROWS | LENGTH | MEMORY or done and not changed <= LENGTH or used >= len(marks):
        return False
    if done and not used:
        what = "the run is finished, and the state of its optimiser went with that"
        remedy = f"Train on from its model: --model.path {out / 'model'}; --keep_state keeps the state of another run"
        raise UserError(what, where=out, remedy=remedy)
    if used and (used >= len(before) or before[used] != marks[used]):
        if changed & ROWS:
            return False
        what = "its last step had fewer rows than a longer run gives it, so that no longer run begins like this one"
        raise UserError(what, where=out, remedy=f"Train on from its model: --model.path {out / 'model'}")
    if changed & LENGTH:
        _refuse_other_rates(config, used, len(before) - 1, len(marks) - 1)
    return True


def _refuse_other_rates(config: SFTConfig | GRPOConfig, used: int, then: int, now: int) -> None:
    """Raises UserError where a run of `now` steps or rounds has other learning rates in the first `used` than one of `then`."""

    def steps(units: int) -> int:
        return optimiser_steps(config.model_copy(update={"rounds": units})) if isinstance(config, GRPOConfig) else units

    recorded = read_record(config.out / "config.json")["optim"].get("decay_steps", 0)
    before = config.optim.model_copy(update={"decay_steps": recorded})
    done, old, new = steps(used), steps(then), steps(now)
    if all(learning_rate(i, old, before) == learning_rate(i, new, config.optim) for i in range(done)):
        return
    span = recorded or old
    rate = learning_rate(max(done, span), span, before)
    raise UserError(
        f"its schedule was laid out over {span} optimiser steps: of another length, the {done} that are done would have "
        "had other learning rates",
        where=config.out,
        remedy=f"Keep the schedule with --optim.decay_steps {span}: from step {span} on the rate is {rate:g}",
    )
