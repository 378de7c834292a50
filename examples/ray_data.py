"""Distil traces with Ray Data: many machines, one table. `pip install ray`, then

    python examples/ray_data.py samples.jsonl out @teacher.toml --base_url https://host/v1

Each actor keeps a ledger of its own on its machine's disk; rows that Ray hands to another actor after a failure may be paid twice.
Where that matters, `seethink data --shard` keeps one ledger a part (docs/distilling.md). `Distil` itself needs no Ray.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from seethink.core.config import resolve
from seethink.core.nouns import sample_to_row
from seethink.core.store import load_samples
from seethink.data.config import DataConfig
from seethink.data.distil import distil


class Distil:
    """A batch of rows, as JSON under `row`, becomes a batch of outcomes: columns as arrays, which is what Ray passes on."""

    def __init__(self, settings: list[str]):
        self.config = resolve(DataConfig, [*settings, "--source", "unread", "--out", "unread"])
        self.ledger = Path(tempfile.mkdtemp(prefix="seethink-")) / "ledger.sqlite"

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list]:
        outcomes = distil([json.loads(row) for row in batch["row"]], self.config, self.ledger)
        return {name: [outcome[name] for outcome in outcomes] for name in outcomes[0]}


def main(source: str, out: str, *settings: str) -> None:
    import ray

    rows = [{"row": json.dumps(sample_to_row(sample))} for sample in load_samples(Path(source))]
    data = ray.data.from_items(rows)
    data = data.map_batches(Distil, fn_constructor_args=(list(settings),), batch_size=256, concurrency=(1, 8))
    data.write_parquet(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
