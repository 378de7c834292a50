"""Metrics mirrored to a tracker, as they are logged; metrics.jsonl stays the truth.

    --track trackio | wandb | tensorboard

A resumed run goes on in the tracker's own run. Only numbers are sent, under the names that the field's dashboards know.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from seethink.core.errors import UserError
from seethink.core.run import Run
from seethink.train.config import TrainingConfig

PROJECT = "seethink"
KNOWN_AS = {"clip_share": "clip_frac"}
"""Ours -> the field's."""
NEEDS = {"trackio": "trackio", "wandb": "wandb", "tensorboard": "torch.utils.tensorboard"}


@contextmanager
def tracked(folder: Run, config: TrainingConfig, start: int, first: bool) -> Iterator[None]:
    """While it lasts the rows that `folder` logs go to `config.track` too, from step `start`; the first rank alone speaks."""
    if config.track == "none" or not first:
        yield
        return
    module = load_tracker(config.track)
    name, identity = config.out.name, re.sub(r"\W", "", folder.key)[:32]
    if config.track == "tensorboard":
        writer = module.SummaryWriter(str(folder.path("tensorboard")), purge_step=start + 1)
        folder.mirror = lambda at, row: [writer.add_scalar(key, value, at) for key, value in numbers(row).items()]
        close = writer.close
    else:
        settings = config.model_dump(mode="json")
        own = {"id": identity, "dir": str(folder.folder)} if config.track == "wandb" else {}
        module.init(project=PROJECT, name=f"{name}-{identity[:8]}", config=settings, resume="allow", **own)
        folder.mirror = lambda at, row: module.log(numbers(row), step=at)
        close = module.finish
    try:
        yield
    finally:
        folder.mirror = None
        close()


def load_tracker(name: str) -> Any:
    """The tracker's module. Raises UserError where it is not installed."""
    try:
        return importlib.import_module(NEEDS[name])
    except ImportError as error:
        raise UserError(f"{name} cannot be loaded ({error})", where="--track", remedy=f"pip install {name}") from None


def numbers(row: dict[str, Any]) -> dict[str, float]:
    """What of a row can be drawn, by the field's names."""
    plain = {k: v for k, v in row.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    return {KNOWN_AS.get(key, key): value for key, value in plain.items()}
