"""Forty pictures with questions, and a hundred and sixty held out, as you might have them: a table and a folder of pictures.

    seethink pocket build --out world --rl 40 --board 160 --sft 0 --unseen 0 --ood 0 --old 0
    python forty_pictures.py world mine       # mine/train.json, mine/test.json, mine/pictures

They are drawn, so that docs/first-hour.md can be followed without anything of yours.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from seethink import load_samples


def write_table(samples, table: Path) -> None:
    """A row a question; a picture is named from the table's own folder, and a box says in which frame it is."""
    pictures = table.parent / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    rows = []
    for sample in samples:
        picture = Path(shutil.copy(sample.images[0], pictures)).relative_to(table.parent)
        row = {"picture": str(picture), "question": sample.question, "answer": sample.gold, "kind": sample.kind}
        if sample.kind == "box":
            row |= {name: sample.meta[name] for name in ("coords", "image_size")}
        rows.append(row)
    table.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n", encoding="utf-8")


world, mine = map(Path, sys.argv[1:])
write_table(load_samples(world / "rl_pool.jsonl"), mine / "train.json")
write_table(load_samples(world / "board.jsonl"), mine / "test.json")
print(f"{mine}/train.json, {mine}/test.json and the pictures beside them")
