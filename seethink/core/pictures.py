"""What a model sees of an item, in training and in evaluation: its own pictures, within a pixel budget, or those of a control.

Controls tell what a score, or what was learned, owes to the pictures: `blank` is an even grey of the same size, `shuffled` are
the pictures of another item. An endpoint gets pictures that were sized here, so that the budget is part of what it is asked; a
model folder sizes its own.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from seethink.core.errors import UserError
from seethink.core.images import image_hash, open_image
from seethink.core.nouns import Example, Sample
from seethink.core.preflight import Sizes
from seethink.core.store import DataRow, atomic

GREY = (128, 128, 128)
SIZED, CONTROL = "images-sized", "images-control"
"""Folders of a run that hold pictures made here."""


def exchanged(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """The samples, in order, each with the pictures of another one that has as many.

    Every item's pictures are used once, as far as that leaves no item with a picture of its own, by content; an item keeps its
    own only where no other has as many different ones. The same seed gives the same exchange.
    """
    chance = random.Random(seed)
    by_number: defaultdict[int, list[int]] = defaultdict(list)
    for place, sample in enumerate(samples):
        if sample.images:
            by_number[len(sample.images)].append(place)
    shown = [sample.images for sample in samples]
    contents = [tuple(map(image_hash, images)) for images in shown]
    for places in by_number.values():
        for place, source in _partners(places, contents, chance).items():
            shown[place] = samples[source].images
    return [replace(sample, images=images) for sample, images in zip(samples, shown, strict=True)]


def exchanged_rows(rows: Sequence[DataRow], seed: int) -> list[DataRow]:
    """Rows of a data file with the pictures exchanged among those that are sound."""
    sound = [row.read.sample for row in rows if isinstance(row.read, Example)]
    shown = iter(exchanged(sound, seed))
    return [
        row._replace(read=replace(row.read, sample=next(shown))) if isinstance(row.read, Example) else row
        for row in rows
    ]


def _partners(places: list[int], contents: list[tuple[str, ...]], chance: random.Random) -> dict[int, int]:
    """place -> place of the item whose pictures it gets. Equal contents stand together in a random order, which is then turned
    by the size of the largest such group: nobody meets its own, unless that is the content of more than half of all."""
    groups: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for place in chance.sample(places, len(places)):
        groups[contents[place]].append(place)
    order = [place for group in groups.values() for place in group]
    turn = max(map(len, groups.values()))
    partners = {place: order[(i + turn) % len(order)] for i, place in enumerate(order)}
    for place, source in partners.items():
        own = set(contents[place])
        if own & set(contents[source]) and (others := [p for p in places if not own & set(contents[p])]):
            partners[place] = chance.choice(others)
    return partners


def own_pictures(samples: Sequence[Sample], shown: Sequence[Sample]) -> int:
    """Items that still see a picture of their own, by content, after an exchange."""
    return sum(
        bool(set(map(image_hash, own.images)) & set(map(image_hash, seen.images)))
        for own, seen in zip(samples, shown, strict=True)
    )


def not_shuffled(samples: Sequence[Sample], shown: Sequence[Sample]) -> dict[str, str]:
    """{alarm: sentence} where an item could not get another picture than its own."""
    kept = own_pictures(samples, shown)
    what = f"{kept} items keep a picture of their own: no other item has as many and none of the same content"
    return {"own_pictures": what} if kept else {}


def blank(samples: Sequence[Sample], sizes: Sizes, folder: Path) -> list[Sample]:
    """The samples with an even mid-grey in the place of every picture, of its size; files below `folder`."""
    found = {path: _grey(folder / CONTROL, sizes[path]) for path in _paths(samples)}
    return [replace(sample, images=tuple(found[path] for path in sample.images)) for sample in samples]


def sized(samples: Sequence[Sample], own: Sizes, sizes: Sizes, folder: Path) -> list[Sample]:
    """The samples with every picture in its size of `sizes`; those that are resized stand below `folder`."""
    found = {path: _resized(path, sizes[path], own[path], folder / SIZED) for path in _paths(samples)}
    return [replace(sample, images=tuple(found[path] for path in sample.images)) for sample in samples]


def refuse_blind(samples: Sequence[Sample], control: str) -> None:
    """Raises UserError for a control on items without pictures, which would tell nothing."""
    if not any(sample.images for sample in samples):
        raise UserError(f"images {control}, but no item has a picture", remedy="Leave --images out")


def _paths(samples: Sequence[Sample]) -> dict[str, None]:
    return dict.fromkeys(path for sample in samples for path in sample.images)


def _grey(folder: Path, size: tuple[int, int]) -> str:
    return _made(folder / f"grey-{size[0]}x{size[1]}.png", lambda: Image.new("RGB", size, GREY))


def _resized(path: str, size: tuple[int, int], own: tuple[int, int], folder: Path) -> str:
    """A file that shows a picture at this size, without loss: the file itself where that is its own."""
    if size == own:
        return path
    file = folder / f"{image_hash(path)}-{size[0]}x{size[1]}.png"
    return _made(file, lambda: open_image(path).resize(size, Image.Resampling.BICUBIC))


def _made(file: Path, image: Callable[[], Image.Image]) -> str:
    if not file.exists():
        with atomic(file) as temporary:
            image().save(temporary, "PNG")
    return str(file)
