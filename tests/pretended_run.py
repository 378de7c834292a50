"""One verb on the pretended device, in a process of its own; prints how it ended, and where it waited, as JSON.

python -m tests.pretended_run grpo '{"rounds": 1}' flex
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from seethink.train import dist
from seethink.train.config import GRPOConfig, SFTConfig
from seethink.train.model import flex, layout, prefix
from tests import pretend

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from kills import build_world, settings


def mask(sight, keys: int) -> Tensor:
    """Who sees whom, as one number per pair."""
    first, until, own, last = (x[:, None] for x in (sight.first, sight.until, sight.own, sight.last))
    place = torch.arange(keys, device=own.device)
    return ((place >= first) & (place < until)) | ((place >= own) & (place <= last))


def attention(q: Tensor, k: Tensor, v: Tensor, block_mask: Tensor, scale: float, **_) -> Tensor:
    """In the fused kernel's place."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    scores = (q @ k.transpose(-1, -2) * scale).masked_fill(~block_mask, -torch.inf)
    return torch.softmax(scores, -1) @ v


def main(verb: str, changes: str, way: str) -> None:
    torch.set_num_threads(1)
    if way != "cpu":
        dist.best_device = lambda: pretend.DEVICE
        nn.Module.to = pretend.move
    if way == "flex":
        for module in (flex, layout, prefix):
            module.DEVICES = {pretend.DEVICE.type}
        flex.kernel, flex.mask, prefix.mask = (lambda _: attention), mask, mask
    with tempfile.TemporaryDirectory() as folder:
        world, out = Path(folder) / "world", Path(folder) / "run"
        build_world(world)
        config = (GRPOConfig if verb == "grpo" else SFTConfig)(**{**settings(verb, world, out), **json.loads(changes)})
        with pretend.Everywhere() if way != "cpu" else nullcontext():
            importlib.import_module(f"seethink.train.{verb}").run(config)
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    print(json.dumps({"waits": dict(pretend.waits.most_common()), "rows": rows}))


if __name__ == "__main__":
    main(*sys.argv[1:])
