"""The items of an evaluation: read, checked, asked as the prompt says, with the pictures that a control gives them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.core.images import fitted, hash_pictures
from seethink.core.nouns import Drop, Example, Sample
from seethink.core.pictures import blank, exchanged_rows, not_shuffled, refuse_blind, sized
from seethink.core.preflight import Sizes, check_pictures, settle
from seethink.core.prompt import options_text
from seethink.core.store import DataRow, hash_file, hash_folder, hash_json, hash_text, read_text
from seethink.evals.board import Board, asked_as
from seethink.evals.boards.find import board_hash
from seethink.evals.config import EvalConfig, model_of, prompt_of
from seethink.evals.files.records import unique
from seethink.rewards.placebo import refuse_placebo

TAKEN = ".images"  # pictures that stand in a board's file; a name that leaves the run folder unclaimed
PLACE = re.compile(r"\{([A-Za-z_]\w*)\}")


@dataclass(frozen=True, slots=True)
class Items:
    """What is asked.

    samples  as a model is asked them, in the order of the board
    own      the same as the board has them
    drops    rows left out
    rows     of the board, those left out included
    sizes    of all pictures
    """

    samples: list[Sample]
    own: list[Sample]
    drops: list[Drop]
    rows: int
    sizes: Sizes


def named(table: dict[str, Any], name: str, what: str) -> str:
    """The name itself, or the first where none is given. Raises UserError for one that is not there."""
    if name and name not in table:
        raise UserError(f"no {what}: {name!r}", remedy=f"Use one of {', '.join(table)}")
    return name or next(iter(table))


def way_to_ask(config: EvalConfig, board: Board) -> tuple[str, Callable[[Sample], Sample]]:
    """(name, how an item is asked): one of the board's prompts, or a template of the user's, named by its hash.

    Raises UserError for a name that the board does not have, or a template with unknown placeholders.
    """
    if not config.prompt.startswith("@"):
        name = named(board.prompts, config.prompt, f"prompt of {config.task}")
        return name, board.prompts[name]
    path = Path(config.prompt[1:])
    text = read_text(path)
    places = PLACE.findall(text)
    if unknown := [place for place in places if place not in ("question", "options")]:
        raise UserError(f"unknown placeholder {{{unknown[0]}}}", where=path, remedy="Use {question} and {options}")
    if "question" not in places:
        raise UserError("the template has no {question}", where=path, remedy="Put {question} where it belongs")
    return f"template {hash_text(text)}", asked_as(lambda sample: _filled(text, sample))


def _filled(template: str, sample: Sample) -> str:
    values = {"question": sample.question, "options": options_text(sample).strip()}
    return PLACE.sub(lambda found: values[found[1]], template)


def read_items(config: EvalConfig, board: Board, ask: Callable[[Sample], Sample], taken: Path, dry_run: bool) -> Items:
    """The items. Raises UserError for rows that cannot be used, unless they are to be left out.

    Pictures that stand in the board's file are written below `taken`. For predictions no picture is looked at.
    """
    refuse_placebo(config.reward, "eval")
    loaded = read_rows(config, board, taken)
    left = [Drop(row.id, "", "check", "left_out", board.left_out[row.id]) for row in loaded if _left_out(row, board)]
    found, sizes = list(unique(row for row in loaded if not _left_out(row, board))), {}
    if config.predictions is None:
        found, sizes = check_pictures(found)
    asked = [row._replace(read=_asked(row.read, ask)) for row in found]
    if config.images == "shuffled":
        asked = exchanged_rows(asked, config.seed)
    if config.predictions is None and not config.base_url and not dry_run:
        from seethink.evals.answers.local import check_prompts  # here: endpoints are evaluated without torch

        asked = check_prompts(config, asked, sizes)
    examples, drops = settle(asked, config.data, config.skip_bad)
    samples = [example.sample for example in examples]
    if config.images != "own":
        refuse_blind(samples, config.images)
    by_id = {row.read.sample.id: row.read.sample for row in found if isinstance(row.read, Example)}
    return Items(samples, [by_id[sample.id] for sample in samples], [*left, *drops], len(loaded), sizes)


def read_rows(config: EvalConfig, board: Board, taken: Path) -> list[DataRow]:
    """The rows of the board. Raises UserError where there are none."""
    pictures = None if config.predictions else taken
    rows = list(islice(board.load(config.data, pictures), config.limit or None))
    if not rows:
        raise UserError("no samples", where=config.data, remedy="Give a board with at least one row")
    return rows


def _left_out(row: DataRow, board: Board) -> bool:
    """Whether a row is none of the items, as the board says, and indeed cannot be used."""
    return row.id in board.left_out and isinstance(row.read, UserError)


def _asked(read: Example | UserError, ask: Callable[[Sample], Sample]) -> Example | UserError:
    return replace(read, sample=ask(read.sample)) if isinstance(read, Example) else read


def shown(config: EvalConfig, items: Items) -> list[Sample]:
    """The items with the pictures that are sent or computed with; those that must be made are written into the run folder."""
    budget = (config.min_pixels, config.max_pixels) if config.base_url else (None, None)
    sizes = {path: fitted(size, *budget) for path, size in items.sizes.items()}
    if config.images == "blank":
        return blank(items.samples, sizes, config.out)
    return sized(items.samples, items.sizes, sizes, config.out)


def not_exchanged(config: EvalConfig, items: Items) -> dict[str, str]:
    """{alarm: sentence} where a shuffled item could not get another picture than its own."""
    return not_shuffled(items.own, items.samples) if config.images == "shuffled" else {}


def inputs_of(config: EvalConfig, items: Items, prompt: str) -> dict[str, str]:
    """The content of what is read, by which a run is this run and no other."""
    return {
        "pictures": "" if config.predictions else hash_pictures(items.samples),
        "system": prompt_of(config),
        "model": config.model if config.base_url or config.predictions else hash_folder(model_of(config).path),
        "data": hash_file(config.data) if config.task == "rows" else dataset_hash(items.own),
        "prompt": prompt,
        "prompts": hash_json([(s.question, s.choices, s.places) for s in items.samples]),
        "board": board_hash(config.task),
        **({"against": hash_folder(config.against)} if config.against else {}),
    }


def dataset_hash(samples: list[Sample]) -> str:
    """Of what is asked and what is right, in order; not of names of files."""
    return hash_json([(s.id, s.question, s.golds, s.choices, s.kind) for s in samples])
