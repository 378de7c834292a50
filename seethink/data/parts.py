"""Parts of the rows, by a hash of their ids: the same ones whenever they are asked for, and however the rows are ordered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from seethink.core.store import hash_text
from seethink.data.config import DataConfig, split_shard
from seethink.data.steps import Candidate


def in_shard(name: str, shard: str) -> bool:
    """Whether the item of this id is of part i/n. Rows that are added move no other."""
    part, of = split_shard(shard)
    return int(hash_text("shard", name), 16) % of == part - 1


def draw(items: Sequence[Candidate], config: DataConfig) -> list[Candidate]:
    """Of each source that is asked about, as many items as a pilot has: drawn at random, in their order."""
    asked = [item for item in items if item.drop is None and item.source not in config.split.rl_only]
    ranked = sorted(asked, key=lambda item: hash_text("pilot", item.id))
    drawn, chosen = Counter[str](), set()
    for item in ranked:
        drawn[item.source] += 1
        if drawn[item.source] <= config.pilot:
            chosen.add(item.id)
    return [item for item in items if item.id in chosen]
