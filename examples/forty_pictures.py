"""Forty pictures with questions, and a hundred and sixty held out, as you might have them: a table and a folder of pictures.

    seethink pocket build --out world --rl 40 --board 160 --sft 0 --unseen 0 --ood 0 --old 0
    python forty_pictures.py world mine       # mine/train.csv, mine/test.csv, mine/pictures

They are drawn, so that docs/first-hour.md can be followed without anything of yours.
"""

from __future__ import annotations

import csv
import shutil
import sys
from pathlib import Path

from seethink import load_samples


def write_table(samples, table: Path) -> None:
    """One line a question; a picture is named from the table's own folder."""
    pictures = table.parent / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    with open(table, "w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["picture", "question", "answer", "kind"])
        for sample in samples:
            picture = shutil.copy(sample.images[0], pictures)
            lines.writerow([Path(picture).relative_to(table.parent), sample.question, sample.gold, sample.kind])


world, mine = map(Path, sys.argv[1:])
write_table(load_samples(world / "rl_pool.jsonl"), mine / "train.csv")
write_table(load_samples(world / "board.jsonl"), mine / "test.csv")
print(f"{mine}/train.csv, {mine}/test.csv and the pictures beside them")
