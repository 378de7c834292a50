"""So many rows of a set, in equal numbers of each kind or in given shares: pure functions of an order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TypeVar

from seethink.core.errors import UserError

T = TypeVar("T")


def first(ranked: Sequence[T], size: int) -> list[T]:
    """The first `size` rows, 0: all. Raises UserError where there are fewer."""
    if size > len(ranked):
        raise UserError(f"{size} rows are wanted and {len(ranked)} are left", remedy="Ask for fewer, or keep more")
    return list(ranked[: size or None])


def equally(ranked: Sequence[T], kinds: Sequence[str], size: int) -> list[T]:
    """As many rows of every kind, the first ones of each; `size` of them in all, to within one a kind, 0: as many as go.

    `kinds` are those of the rows. Raises UserError where the rarest kind has too few.
    """
    groups = _groups(ranked, kinds)
    turns = [row for turn in zip(*groups.values(), strict=False) for row in turn]  # one of each, until one has no more
    if size > len(turns):
        rarest = min(groups, key=lambda kind: len(groups[kind]))
        what = f"{size} rows are wanted with equal kinds, and {len(groups[rarest])} of {rarest} are left"
        raise UserError(what, remedy=f"Ask for at most {len(turns)}, or keep more")
    return turns[: size or None]


def in_shares(ranked: Sequence[T], kinds: Sequence[str], shares: Mapping[str, int], size: int) -> list[T]:
    """Rows in which every kind has its share, the first ones of each; `size` of them in all, 0: as many as go.

    shares  kind -> how many of the whole are of it; seats that do not come out even go to the largest remainders

    Raises UserError where a kind has too few.
    """
    groups, whole = _groups(ranked, kinds), sum(shares.values())
    have = {kind: len(groups.get(kind, ())) for kind in shares}
    most = int(min(Fraction(have[kind] * whole, share) for kind, share in shares.items()))
    seats = _seats(shares, size or most)
    for kind, wanted in seats.items():
        if wanted > have[kind] or not have[kind]:
            what = f"{have[kind]} rows of {kind} are left, which are {shares[kind]} of {whole} questions of the data"
            raise UserError(what, remedy=f"Ask for at most {most} rows in these shares, or keep more")
    return [row for kind, wanted in seats.items() for row in groups.get(kind, [])[:wanted]]


def _seats(shares: Mapping[str, int], size: int) -> dict[str, int]:
    """`size` as whole numbers in proportion to the shares: the largest remainders are rounded up."""
    exact = {kind: Fraction(size * share, sum(shares.values())) for kind, share in shares.items()}
    seats = Counter({kind: int(quota) for kind, quota in exact.items()})
    by_remainder = sorted(exact, key=lambda kind: (seats[kind] - exact[kind], kind))
    seats.update(by_remainder[: size - seats.total()])
    return dict(seats)


def _groups(ranked: Sequence[T], kinds: Sequence[str]) -> dict[str, list[T]]:
    groups: dict[str, list[T]] = {kind: [] for kind in sorted(set(kinds))}
    for row, kind in zip(ranked, kinds, strict=True):
        groups[kind].append(row)
    return groups
