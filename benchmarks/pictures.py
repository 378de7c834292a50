"""Gigabytes of pictures through an export and back: seconds, MB/s and the most memory of each way, and that bytes are equal.

    python benchmarks/pictures.py [--gb 2] [--side 320] [--folder DIR]

Pictures are noise as JPEG, each another one, since what compresses would be read faster than it ever is. Each stage is a process
of its own, so its peak is its own: `export` writes verl's parquet, pictures inside; `pyarrow`, `datasets` (streamed, and
loaded through its cache) read it; `import` makes rows and files of it again. Everything is below a folder that is removed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from seethink.core.nouns import Sample
from seethink.core.run import processor
from seethink.core.store import load_samples, save_samples
from seethink.data.config import ExportConfig, ImportConfig
from seethink.data.export import run as export
from seethink.data.imports.run import run as import_rows

EVERY = 50
"""Of so many rows one is held against its file, byte by byte."""


def make(folder: Path, size: int, side: int) -> int:
    """Pictures of so many bytes in all, and rows.jsonl; the number of them."""
    (folder / "images").mkdir(parents=True)
    noise = np.random.default_rng(0)

    def samples() -> Iterable[Sample]:
        held = count = 0
        while held < size:
            file = folder / "images" / f"{count}.jpg"
            Image.fromarray(noise.integers(0, 256, (side, side, 3), np.uint8)).save(file, quality=75)
            held += file.stat().st_size
            yield Sample(f"{count}", "noise", (str(file),), f"What is number {count}?", str(count), "digit")
            count += 1

    return save_samples(folder / "rows.jsonl", samples())


def check(folder: Path, rows: Iterable[list[dict]]) -> int:
    """Rows whose pictures are `rows`, in order; every so many against the file. Returns how many there were."""
    count = 0
    for count, images in enumerate(rows, 1):
        if count % EVERY == 1:
            assert [image["bytes"] for image in images] == [(folder / "images" / f"{count - 1}.jpg").read_bytes()]
    return count


def by_export(folder: Path) -> int:
    export(ExportConfig(data=folder / "rows.jsonl", format="verl", out=folder / "there.parquet"))
    return count_rows(folder)


def by_pyarrow(folder: Path) -> int:
    import pyarrow.parquet as pq

    with pq.ParquetFile(folder / "there.parquet", pre_buffer=False, buffer_size=1 << 20) as file:
        return check(folder, (row["images"] for batch in file.iter_batches(16) for row in batch.to_pylist()))


def by_datasets(folder: Path, streaming: bool) -> int:
    import datasets
    from pyarrow.dataset import ParquetFragmentScanOptions

    cache = folder / "cache"
    # pyarrow reads ahead and keeps what it read until the file ends: streamed as it comes, the peak is the file
    more = {"fragment_scan_options": ParquetFragmentScanOptions(pre_buffer=False)} if streaming else {}
    rows = datasets.load_dataset(
        "parquet",
        data_files=str(folder / "there.parquet"),
        split="train",
        streaming=streaming,
        cache_dir=str(cache),
        **more,
    )
    count = check(folder, (row["images"] for row in rows))
    shutil.rmtree(cache, ignore_errors=True)
    return count


def by_import(folder: Path) -> int:
    import_rows(ImportConfig(format="verl", source=folder / "there.parquet", out=folder / "back" / "rows.jsonl"))
    read = ([{"bytes": Path(sample.images[0]).read_bytes()}] for sample in load_samples(folder / "back" / "rows.jsonl"))
    return check(folder, read)


def count_rows(folder: Path) -> int:
    with open(folder / "rows.jsonl", "rb") as file:
        return sum(1 for _ in file)


STAGES: dict[str, Callable[[Path], int]] = {
    "export": by_export,
    "pyarrow": by_pyarrow,
    "datasets, streamed": lambda folder: by_datasets(folder, True),
    "datasets, loaded": lambda folder: by_datasets(folder, False),
    "import": by_import,
}


def stage(name: str, folder: Path) -> None:
    """One stage in this process; prints what it took as JSON."""
    started = time.monotonic()
    with contextlib.redirect_stdout(sys.stderr):
        rows = STAGES[name](folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"rows": rows, "seconds": time.monotonic() - started, "peak_mb": peak / 1024}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=2.0)
    parser.add_argument("--side", type=int, default=320, help="pixels")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    parser.add_argument("--stage", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        return stage(arguments.stage[0], Path(arguments.stage[1]))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        folder = Path(temporary) / "pictures"
        started = time.monotonic()
        rows = make(folder, int(arguments.gb * 1e9), arguments.side)
        size = sum(entry.stat().st_size for entry in os.scandir(folder / "images")) / 1e6
        print(f"{processor()}: {rows:,} pictures, {size:,.0f} MB, made in {time.monotonic() - started:.0f} s")
        for name in STAGES:
            call = [sys.executable, __file__, "--stage", name, str(folder)]
            done = json.loads(subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True).stdout)
            assert done["rows"] == rows, f"{name}: {done['rows']} rows of {rows}"
            speed = size / done["seconds"]
            print(f"{name:20} {done['seconds']:7.1f} s {speed:7.1f} MB/s  peak {done['peak_mb']:6.0f} MB", flush=True)
        print(f"one row of {EVERY} was held against its file each time, byte by byte")


if __name__ == "__main__":
    main()
