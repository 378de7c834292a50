"""Every row of a data file and every picture looked at before anything is computed or paid for.

What is wrong with a row stands in its place as a value, so that all bad rows are listed at once.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from seethink.core.errors import UserError
from seethink.core.images import check_image
from seethink.core.nouns import Drop, Example
from seethink.core.progress import progress
from seethink.core.run import Run
from seethink.core.store import DataRow
from seethink.core.tables import write_table

SHOWN = 20  # bad rows listed by name
MANY = 2000  # pictures from which on looking at them is worth a progress line
DROPS = "drops.parquet"

Sizes = dict[str, tuple[int, int]]
"""(width, height) of every sound picture, by path."""


class Settled(NamedTuple):
    """Sound rows of a file in order, and what was left out."""

    examples: list[Example]
    drops: list[Drop]


def check_pictures(rows: list[DataRow]) -> tuple[list[DataRow], Sizes]:
    """The rows, a fault in the place of each with a picture that is not sound to the last pixel."""
    paths = list(dict.fromkeys(i for row in rows if isinstance(row.read, Example) for i in row.read.sample.images))
    found: dict[str, tuple[int, int] | UserError] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool, progress("images", len(paths), show=len(paths) >= MANY) as bar:
        for path, size in zip(paths, pool.map(_look, paths), strict=True):  # decoders release the interpreter lock
            found[path] = size
            bar.advance()
    faults = {path: fault for path, fault in found.items() if isinstance(fault, UserError)}
    checked = [
        row._replace(read=next((faults[i] for i in row.read.sample.images if i in faults), row.read))
        if isinstance(row.read, Example)
        else row
        for row in rows
    ]
    return checked, {path: size for path, size in found.items() if not isinstance(size, UserError)}


def _look(path: str) -> tuple[int, int] | UserError:
    try:
        return check_image(path)
    except UserError as fault:
        return fault


def settle(rows: list[DataRow], path: Path, skip_bad: bool, say: bool = True) -> Settled:
    """The sound rows, and those to be left out, which are listed. Raises UserError for any unless `skip_bad`."""
    examples = [row.read for row in rows if isinstance(row.read, Example)]
    bad = faulty(rows)
    if bad and (not skip_bad or not examples):  # nothing would be left
        raise refusal(bad, len(rows), "" if skip_bad else "Or leave such rows out with --skip_bad", say)
    if say and bad:
        _list(bad)
        print(f"{len(bad)} of {len(rows)} rows of {path} are left out, see {DROPS}", file=sys.stderr)
    if say and (bare := sum(not example.sample.images for example in examples)):
        print(f"{bare} of {len(examples)} rows of {path} are without images")
    return Settled(examples, [Drop(row.id, "", "check", "bad_row", f"{row.where}: {fault.what}") for row, fault in bad])


def faulty(rows: list[DataRow]) -> list[tuple[DataRow, UserError]]:
    """The rows with a fault, in order, with what it is."""
    return [(row, row.read) for row in rows if isinstance(row.read, UserError)]


def refusal(bad: list[tuple[DataRow, UserError]], total: int, remedy: str, say: bool = True) -> UserError:
    """One line about the first bad row and how many there are; several are listed by name before."""
    row, fault = bad[0]
    if say and len(bad) > 1:
        _list(bad)
    count = f"{len(bad)} of {total} rows cannot be used, the first: " if len(bad) > 1 else ""
    return UserError(f"{count}{fault.what}", where=row.place, remedy=". ".join(filter(None, (fault.remedy, remedy))))


def _list(bad: list[tuple[DataRow, UserError]]) -> None:
    for row, fault in bad[:SHOWN]:
        print(f"  {row.place}: {fault.what}. {fault.remedy}", file=sys.stderr)
    if len(bad) > SHOWN:
        print(f"  ... and {len(bad) - SHOWN} more", file=sys.stderr)


def write_drops(folder: Run, drops: list[Drop]) -> None:
    """The rows left out of a run, as a table of its folder."""
    if not folder.owner or folder.done:
        return
    folder.path(DROPS).unlink(missing_ok=True)
    if drops:
        write_table(folder.path(DROPS), drops)
