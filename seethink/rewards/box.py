"""Boxes: read in a declared frame, scored by plain intersection over union.

Frames are declared per sample (`meta.coords`: norm1, norm1000 or pixel with `meta.image_size`; `meta.gold_coords` and
`meta.gold_image_size` where the gold uses another one) and never guessed from the size of the numbers. Coordinates are continuous: the +1 of inclusive
pixels would turn every box in [0, 1] into nonsense. A box is never repaired: corners in the wrong order are malformed.
"""

from __future__ import annotations

import random
import re
from decimal import Decimal
from functools import lru_cache
from typing import Any

from seethink.core.nouns import Sample
from seethink.rewards.config import BoxConfig
from seethink.rewards.decision import NOTHING, Decision, ambiguous, gold_error, malformed
from seethink.rewards.text import normalise

Box = tuple[Decimal, Decimal, Decimal, Decimal]
"""x1, y1, x2, y2 in fractions of the image, 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1; decimals, so that half a box is a half."""

MAX_BOXES = 100
OUTSIDE = "outside the image"
SLACK = Decimal("0.001")
"""A coordinate may leave the frame by this fraction of its size and is then clipped; rounding does that."""

_GROUP = re.compile(r"[\[(]([^\[\]()]*)[\])]")
_NUMBER = re.compile(r"\s*[\"']?\s*([-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?)\s*[\"']?\s*")
_BARE = re.compile(r"[-+0-9.eE,\s]+")
_ASIDE = re.compile(  # what a box is called, which may hold numbers, and LaTeX for the size of brackets
    r"[\"'](?!\w*box)\w+[\"']\s*:\s*(?:\"[^\"]*\"|'[^']*')|<\|object_ref_start\|>[^<]*<\|object_ref_end\|>|<ref>[^<]*</ref>|\\(?:left|right)\b"
)


def box(gold: str, said: str, meta: dict[str, Any], config: BoxConfig) -> Decision:
    """IoU of the answer's box with the gold box; for k gold boxes the best one-to-one sum over max(boxes given, k).

    With a threshold the overlap becomes 0 or 1.
    """
    if problem := frame_problem(meta):
        return gold_error(problem)
    frame, gold_frame = (frame_size(*declared) or (1.0, 1.0) for declared in _declared(meta))
    targets = _known_boxes(gold, gold_frame)
    if isinstance(targets, str):
        frames = f", in the frame {_declared(meta)[1][0]!r}; meta.coords declares norm1, norm1000 or pixel"
        return gold_error(f"gold box: {targets}{frames if targets == OUTSIDE else ''}")
    boxes = read_boxes(said, frame)
    if isinstance(boxes, str):
        return malformed(boxes)
    measure = generalised_iou if config.measure == "giou" else iou
    if len(targets) == 1:
        if len(set(boxes)) > 1:
            return ambiguous("different boxes for one target")
        value = measure(boxes[0], targets[0])
    else:
        from scipy.optimize import linear_sum_assignment  # 50 MB and half a second, for what few answers need

        table = [[measure(b, t) for t in targets] for b in boxes]
        matches = zip(*linear_sum_assignment(table, maximize=True), strict=True)  # no box is used twice
        value = float(sum(table[r][c] for r, c in matches)) / max(len(boxes), len(targets))
    return Decision(min(1.0, value) if config.threshold is None else float(min(1.0, value) >= config.threshold))


def wrong_boxes(_: Sample, __: random.Random) -> list[str]:
    """Canaries: a speck, broken boxes, and one box too often."""
    return ["[0, 0, 0.001, 0.001]", "[0, 0, 1]", "IoU = 1.0", "[0, 0, 1, 1]" * 101, *NOTHING]


def frame_problem(meta: dict[str, Any]) -> str:
    """Which of the two frames cannot be known, or ''."""
    for name, (coords, size) in zip(("", "gold_"), _declared(meta), strict=True):
        if frame_size(coords, size) is None:
            of_gold = name if f"{name}coords" in meta or f"{name}image_size" in meta else ""
            return f"no frame: {of_gold}coords {coords!r} with {of_gold}image_size {size!r}"
    return ""


def in_gold_frame(meta: dict[str, Any]) -> dict[str, Any]:
    """What is declared for an answer that is written as the gold is."""
    _, (coords, size) = _declared(meta)
    return {"coords": coords, "image_size": size}


def _declared(meta: dict[str, Any]) -> tuple[tuple[str, Any], tuple[str, Any]]:
    """(coords, image size) of the answer, and of the gold."""
    coords, size = str(meta.get("coords", "norm1")), meta.get("image_size")
    return (coords, size), (str(meta.get("gold_coords", coords)), meta.get("gold_image_size", size))


def frame_size(coords: str, image_size: Any) -> tuple[float, float] | None:
    """Width and height of the declared frame, None for an unknown one."""
    if coords == "norm1":
        return 1.0, 1.0
    if coords == "norm1000":
        return 1000.0, 1000.0
    if coords != "pixel" or not isinstance(image_size, list | tuple) or len(image_size) != 2:
        return None
    sizes = [float(side) for side in image_size if isinstance(side, int | float) and not isinstance(side, bool)]
    return (sizes[0], sizes[1]) if len(sizes) == 2 and min(sizes) > 0 else None


def read_boxes(text: str, frame: tuple[float, float]) -> list[Box] | str:
    """All boxes of a text, or what is wrong with it. A bracket of several numbers must hold a box or a corner."""
    boxes: list[Box] = []
    corner: tuple[float, ...] = ()
    for _, numbers in number_groups(normalise(_ASIDE.sub("", text))):
        if len(numbers) == 1:
            continue  # `[2]`, a reference
        if len(numbers) == 2 and len(corner) == 0:
            corner = numbers
            continue
        if len(corner + numbers) != 4:
            return f"{len(numbers)} numbers in brackets"
        placed = _place(corner + numbers, frame)
        if isinstance(placed, str):
            return placed
        boxes.append(placed)
        corner = ()
    if corner:
        return "half a box"
    if len(boxes) > MAX_BOXES:
        return f"more than {MAX_BOXES} boxes"
    return boxes or "no box"


_known_boxes = lru_cache(maxsize=10_000)(read_boxes)


def iou(a: Box, b: Box) -> float:
    """Intersection over union in continuous coordinates; symmetric, in [0, 1]."""
    overlap = _overlap(a, b)
    return min(1.0, float(overlap / (_area(a) + _area(b) - overlap)))


def generalised_iou(a: Box, b: Box) -> float:
    """GIoU (Rezatofighi et al. 2019) mapped from [-1, 1] to [0, 1]: unlike IoU it tells near misses from far ones."""
    hull = (min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))
    union = _area(a) + _area(b) - _overlap(a, b)
    return min(1.0, max(0.0, (iou(a, b) - float((_area(hull) - union) / _area(hull)) + 1) / 2))


def number_groups(text: str) -> list[tuple[tuple[int, int], tuple[float, ...]]]:
    """(start, end) and numbers of every innermost bracket that holds nothing else; bare numbers are one bracket.

    Brackets that hold numbers among other things have an empty tuple, those without any are left out.
    """
    whole = _BARE.fullmatch(text)
    groups = []
    for group in _GROUP.finditer(f"[{text}]" if whole else text):
        matches = [_NUMBER.fullmatch(part) for part in group[1].split("," if "," in group[1] else None)]
        if all(matches):
            groups.append((group.span(), tuple(float(match[1]) for match in matches if match)))
        elif any(matches):
            groups.append((group.span(), ()))
    return groups


def _place(numbers: tuple[float, ...], frame: tuple[float, float]) -> Box | str:
    """Box in fractions of the frame, or what is wrong with it."""
    x1, y1, x2, y2 = (Decimal(repr(n)) / Decimal(repr(side)) for n, side in zip(numbers, frame * 2, strict=True))
    if not all(-SLACK <= value <= 1 + SLACK for value in (x1, y1, x2, y2)):
        return OUTSIDE
    x1, y1, x2, y2 = (min(Decimal(1), max(Decimal(0), value)) for value in (x1, y1, x2, y2))
    if not (x1 < x2 and y1 < y2):
        return "corners out of order"
    return (x1, y1, x2, y2) if _area((x1, y1, x2, y2)) > 1e-12 else "no area"


def _overlap(a: Box, b: Box) -> Decimal:
    return max(0 * a[0], min(a[2], b[2]) - max(a[0], b[0])) * max(0 * a[0], min(a[3], b[3]) - max(a[1], b[1]))


def _area(a: Box) -> Decimal:
    return (a[2] - a[0]) * (a[3] - a[1])
