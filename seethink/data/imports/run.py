"""`seethink import`: people's own data as our rows, and the pictures that the source holds as files beside them.

    seethink import --format hf --source train.parquet --columns problem=question,solution=gold --out rl.jsonl
    seethink import --format llamafactory --source mine.json --images pictures --kind open --out sft.jsonl

The reverse of `seethink export`: what that wrote comes back as equal samples, or as examples where a format carries the trace.
A row is read, checked as training would check it, its pictures decoded to the last pixel, and written, one at a time. A row that
cannot be taken stops the verb after all are looked at, or is left out by name (`skip_bad`). FILE.jsonl appears when it is whole;
pictures are whole from the first, named by their hash, so the same command after a kill writes none of them twice.
"""

from __future__ import annotations

import difflib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.core.guard import same_file
from seethink.core.nouns import Example, sample_to_row
from seethink.core.preflight import SHOWN, refusal
from seethink.core.progress import progress
from seethink.core.store import DataRow, example_from_row, relative_images, write_jsonl
from seethink.core.tags import THINK_END, compose
from seethink.data.config import ImportConfig
from seethink.data.imports.files import Fields, TheirRow, files_of, rows, size
from seethink.data.imports.layouts import FORMATS, OURS, WORDS, Aliases, counted, draft, look, together
from seethink.data.imports.pictures import PictureFolder
from seethink.data.sources.paper import paper_sample
from seethink.rewards.check import check_gold

PREVIEW = 3
KNOWN_BY = 1000  # rows by which a column that --columns names must have been seen
MANY = 20_000  # units of a file from which on it is worth a progress line


def run(config: ImportConfig, dry_run: bool = False) -> dict[str, Any]:
    """The verb; its counts. Raises UserError for a source that cannot be read, and for rows that cannot be taken."""
    if config.out.suffix != ".jsonl":
        raise UserError("rows are written as JSONL", where=config.out, remedy=f"Name it {config.out.stem}.jsonl")
    if config.images and not config.images.is_dir():
        raise UserError("no such folder", where=config.images, remedy="Name the folder of the pictures in --images")
    path = config.out.with_name(f"{config.out.stem}-dropped.jsonl")
    if same_file(path, config.source):
        raise UserError("the list of dropped rows would be written over it", where=config.source, remedy="Rename it")
    importer = Importer(config, write=not dry_run)
    if dry_run:
        for number, row in enumerate(importer.rows()):
            if number < PREVIEW:
                print(json.dumps(row, indent=2, ensure_ascii=False, default=str))
        importer.settle()
    else:
        try:
            write_jsonl(config.out, importer.settled())
        except UserError:
            importer.pictures.forget()
            raise
        path.unlink(missing_ok=True)  # of an earlier call
        if importer.dropped:
            write_jsonl(path, [{"where": r.where, "id": r.id, "reason": str(fault)} for r, fault in importer.dropped])
            print(f"import: what was dropped, and why: {path}")
    return importer.summary(dry_run)


class Importer:
    """One pass over a source: what was taken, what was dropped, and what became of the columns."""

    def __init__(self, config: ImportConfig, write: bool):
        self.config = config
        self.files = files_of(config.source)
        self.names, self.mapped = columns(config)
        self._pictured = [theirs for theirs, ours in self.mapped.items() if ours == "images"]
        self.pictures = PictureFolder(
            config.out.absolute().with_name(f"{config.out.stem}-images"),
            [folder.absolute() for folder in (config.images, self.files[0].parent) if folder],
            write,
        )
        self.source = (config.source if config.source.is_dir() else self.files[0]).absolute().stem
        self.dropped: list[tuple[DataRow, UserError]] = []
        self.notes: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.completions = self.read = self.unjudged = 0
        self._first_unjudged = ""
        self._ids: dict[str, str] = {}

    def rows(self) -> Iterator[Fields]:
        """Our rows, as they come."""
        sizes = [size(file) for file in self.files]
        unseen = dict(self.mapped)
        known: dict[str, None] = {}
        with progress("import", sum(sizes), show=sum(sizes) >= MANY) as bar:
            for file in self.files:
                for found in rows(file):
                    self.read += 1
                    if unseen and isinstance(found.row, dict):
                        known |= dict.fromkeys(found.row)
                        unseen = {name: ours for name, ours in unseen.items() if look(found.row, name) is None}
                        if self.read == KNOWN_BY:
                            refuse_unseen(unseen, known, self.config.source)
                    if (row := self._taken(found)) is not None:
                        yield row
                    bar.advance(found.units, f"{self.read - len(self.dropped)} rows, {len(self.dropped)} dropped")
        refuse_unseen({name: ours for name, ours in unseen.items() if name not in known}, known, self.config.source)

    def settled(self) -> Iterator[Fields]:
        """The same; and whether the verb may go on with them is decided before they are kept."""
        yield from self.rows()
        self.settle()

    def settle(self) -> None:
        """Raises UserError for dropped rows that nobody allowed, and where no row is left."""
        if not self.read:
            raise UserError("no rows", where=self.config.source, remedy="Give a file with at least one row")
        if self.dropped and (not self.config.skip_bad or len(self.dropped) == self.read):
            raise refusal(
                self.dropped, self.read, "" if self.config.skip_bad else "Or leave such rows out with --skip_bad"
            )

    def summary(self, dry_run: bool) -> dict[str, Any]:
        """Printed, and given back."""
        taken = self.read - len(self.dropped)
        if self.unjudged:
            what = f"{self.unjudged} of {taken} golds cannot be judged by, the first of {self._first_unjudged}"
            print(f"  ! {what}; see `seethink reward check {self.config.out}`", file=sys.stderr)
        for line in counted(self.notes):
            print(f"  {line}")
        for row, fault in self.dropped[:SHOWN]:
            print(f"  dropped {row.place}: {fault.what}. {fault.remedy}", file=sys.stderr)
        if more := len(self.dropped) - SHOWN if len(self.dropped) > SHOWN else 0:
            print(f"  ... and {more} more", file=sys.stderr)
        kinds = ", ".join(f"{kind} {n}" for kind, n in sorted(self.kinds.items()))
        what = f"{taken} of {self.read} rows ({kinds}), {self.completions} with a completion"
        written = len(self.pictures.written)
        end = " (not written)" if dry_run else f"; {written} pictures to {self.pictures.folder}" if written else ""
        print(f"import: {what}, {self.config.out}{end}")
        numbers = {"rows": self.read, "taken": taken, "dropped": len(self.dropped), "completions": self.completions}
        return {**numbers, "kinds": dict(self.kinds), "pictures": len(self.pictures.written)}

    def _taken(self, found: TheirRow) -> Fields | None:
        """Our row; None for one that is dropped."""
        name = ""
        try:
            if isinstance(found.row, UserError):
                raise found.row
            name = str(found.row.get("id", ""))[:80]
            return self._ours(found, found.row)
        except UserError as fault:
            self.dropped.append((DataRow(found.where, name, fault), fault))
            return None

    def _ours(self, found: TheirRow, theirs: Fields) -> Fields:
        where, notes = found.where, ()
        if self.config.format == "paper":
            row, held = from_paper(theirs, where, self.pictures)
        else:
            row, cell, notes = draft(together(theirs, self._pictured), self.names, self.config.kind, where)
            index = "" if self.config.format != "hf" else str(theirs.get("index", ""))
            held = self.pictures.of_table(cell, index, where) if index else self.pictures.of(cell, where)
            row = {"id": found.name, "source": self.source, **row, "images": [picture.file for picture in held]}
        example = example_from_row(row, where)
        if (first := self._ids.setdefault(example.sample.id, where)) != where:
            raise UserError(
                f"id {example.sample.id[:80]!r} was already used in {first}", where=where, remedy="Ids are unique"
            )
        ours = relative_images(sample_to_row(example.sample), self.config.out)
        ours |= {"completion": example.completion} if example.completion else {}
        try:
            json.dumps(ours, ensure_ascii=False, default=str).encode()
        except UnicodeEncodeError:
            raise UserError(
                "a text holds half a character (a lone surrogate)", where=where, remedy="Repair it"
            ) from None
        self.pictures.keep(held, where)
        self._count(example, notes)
        if problem := check_gold(example.sample):
            self.unjudged += 1
            self._first_unjudged = self._first_unjudged or f"{where}: {problem}"
        return json.loads(json.dumps(ours, default=str))

    def _count(self, example: Example, notes: tuple[str, ...]) -> None:
        self.notes.update(notes)
        self.kinds[example.sample.kind] += 1
        self.completions += bool(example.completion)


def columns(config: ImportConfig) -> tuple[Aliases, dict[str, str]]:
    """(the format's names with those that the user gave before them, theirs -> ours of the latter).

    Raises UserError for what is no column of ours, with the one that was meant.
    """
    names, mapped = dict(FORMATS[config.format]), {}
    if config.columns and config.format == "paper":
        raise UserError("the published format has its columns", remedy="Leave --columns out, or give --format hf")
    for theirs, _, ours in (pair.partition("=") for pair in config.columns):
        ours = WORDS.get(ours, ours)
        if ours not in OURS:
            close = difflib.get_close_matches(ours, [*OURS, *WORDS], n=1)
            remedy = f"Did you mean {close[0]}?" if close else f"Ours are {', '.join(OURS)}"
            raise UserError(f"--columns {theirs}={ours}: no column of ours", remedy=remedy)
        if ours != "images" and (other := next((t for t, o in mapped.items() if o == ours), None)):
            what = f"--columns gives {ours} two columns, {other} and {theirs}"
            raise UserError(what, remedy="Name one: only pictures are put together from several")
        mapped[theirs] = ours
        target = "asked" if ours == "question" and "asked" in names else ours
        names = {name: tuple(t for t in of if t != theirs) for name, of in names.items()}
        names[target] = (theirs, *names.get(target, ())) if ours != "gold" else (theirs,)  # named, and no other
    return names, mapped


def refuse_unseen(unseen: dict[str, str], known: dict[str, None], source: Path) -> None:
    """Raises UserError for a column that --columns names and no row has, with the one that was meant."""
    for theirs, ours in unseen.items():
        close = difflib.get_close_matches(theirs, known, n=1, cutoff=0.5)
        remedy = f"Did you mean {close[0]}={ours}?" if close else f"Its columns are {', '.join(list(known)[:20])}"
        raise UserError(f"--columns {theirs}={ours}: no column {theirs!r}", where=source, remedy=remedy)


def from_paper(theirs: Fields, where: str, pictures: PictureFolder) -> tuple[Fields, list[Any]]:
    """A published record as a row of ours, its trace (`ds_answer`) as the completion."""
    sample = paper_sample(theirs, where, pictures.roots)
    row = sample_to_row(sample)
    trace = row["meta"].pop("ds_answer", "")
    think, end, answer = str(trace).partition(THINK_END)
    if end and answer.strip():
        row["completion"] = compose(think.replace("<think>", "", 1).strip(), answer.strip())
    elif trace:
        row["meta"]["ds_answer"] = trace
    return row, pictures.of(row["images"], where)
