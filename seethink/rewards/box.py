"""Boxes: read in a declared frame, scored by plain intersection over union.

Frames are declared per sample (`meta.coords`: norm1, norm1000 or pixel with `meta.image_size`; `meta.gold_coords` where the
gold uses another one) and never guessed from the size of the numbers. Coordinates are continuous: the +1 of inclusive
pixels would turn every box in [0, 1] into nonsense. A box is never repaired: corners in the wrong order are malformed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from seethink.rewards.decision import Decision, ambiguous, gold_error, malformed
from seethink.rewards.text import normalise

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in fractions of the image, 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1."""

MAX_BOXES = 100
SLACK = 1e-3
"""A coordinate may leave the frame by this fraction of its size and is then clipped; rounding does that."""

_GROUP = re.compile(r"[\[(]([^\[\]()]*)[\])]")
_NUMBER = re.compile(r"\s*[\"']?\s*([-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?)\s*[\"']?\s*")
_BARE = re.compile(r"[-+0-9.eE,\s]+")


def box(gold: str, answer: str, meta: dict[str, Any], *, giou: bool = False) -> Decision:
    """IoU of the answer's box with the gold box; for k gold boxes the best one-to-one sum over max(boxes given, k)."""
    coords = str(meta.get("coords", "norm1"))
    frame, gold_frame = (
        frame_size(name, meta.get("image_size")) for name in (coords, str(meta.get("gold_coords", coords)))
    )
    if frame is None or gold_frame is None:
        return gold_error(f"no frame: coords {coords!r} with image_size {meta.get('image_size')!r}")
    targets = read_boxes(gold, gold_frame)
    if isinstance(targets, str):
        return gold_error(f"gold box: {targets}")
    boxes = read_boxes(answer, frame)
    if isinstance(boxes, str):
        return malformed(boxes)
    if len(targets) == 1:
        if len(set(boxes)) > 1:
            return ambiguous("different boxes for one target")
        return Decision(_similarity(boxes[0], targets[0], giou))
    table = [[_similarity(b, t, giou) for t in targets] for b in boxes]
    return Decision(min(1.0, best_assignment(table) / max(len(boxes), len(targets))))


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
    """All boxes of a text, or what is wrong with it. Every bracket that holds numbers must hold a box or a corner."""
    boxes: list[Box] = []
    corner: tuple[float, ...] = ()
    for numbers in _number_groups(normalise(text)):
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


def iou(a: Box, b: Box) -> float:
    """Intersection over union in continuous coordinates; symmetric, in [0, 1]."""
    overlap = _overlap(a, b)
    return min(1.0, overlap / (_area(a) + _area(b) - overlap))


def generalised_iou(a: Box, b: Box) -> float:
    """GIoU (Rezatofighi et al. 2019) mapped from [-1, 1] to [0, 1]: unlike IoU it tells near misses from far ones."""
    hull = (min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))
    union = _area(a) + _area(b) - _overlap(a, b)
    return min(1.0, max(0.0, (iou(a, b) - (_area(hull) - union) / _area(hull) + 1) / 2))


def best_assignment(table: Sequence[Sequence[float]]) -> float:
    """Largest sum of one-to-one matches; no row or column is used twice."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(sum(table[r][c] for r, c in zip(rows, columns, strict=True)))


def _similarity(a: Box, b: Box, giou: bool) -> float:
    return generalised_iou(a, b) if giou else iou(a, b)


def _number_groups(text: str) -> list[tuple[float, ...]]:
    """Numbers of every innermost bracket that holds nothing else; a text of bare numbers is one bracket."""
    if _BARE.fullmatch(text):
        text = f"[{text}]"
    groups = []
    for group in _GROUP.findall(text):
        matches = [_NUMBER.fullmatch(part) for part in group.split(",")]
        if all(matches):
            groups.append(tuple(float(match[1]) for match in matches if match))
        elif any(matches):
            groups.append(())
    return groups


def _place(numbers: tuple[float, ...], frame: tuple[float, float]) -> Box | str:
    """Box in fractions of the frame, or what is wrong with it."""
    x1, y1, x2, y2 = (n / side for n, side in zip(numbers, frame * 2, strict=True))
    if not all(-SLACK <= value <= 1 + SLACK for value in (x1, y1, x2, y2)):
        return "outside the image"
    x1, y1, x2, y2 = (min(1.0, max(0.0, value)) for value in (x1, y1, x2, y2))
    if not (x1 < x2 and y1 < y2):
        return "corners out of order"
    return (x1, y1, x2, y2) if _area((x1, y1, x2, y2)) > 1e-12 else "no area"


def _overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _area(a: Box) -> float:
    return (a[2] - a[0]) * (a[3] - a[1])
