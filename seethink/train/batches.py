"""Which rows a trainer draws, in which order, and how many are computed at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from seethink.core.store import hash_text


def data_order(ids: Sequence[str], total: int, seed: int) -> list[int]:
    """Places of `total` draws: whole shuffled passes over the rows of these ids, the same for every run with this seed.

    A row has its place by its own id: where one leaves the file or joins it, the others keep their order.
    """
    order: list[int] = []
    epoch = 0
    while len(order) < total:
        order += sorted(range(len(ids)), key=lambda i: hash_text(str(seed), str(epoch), ids[i]))
        epoch += 1
    return order[:total]


def order_hash(ids: list[str]) -> str:
    """Hash of the sample ids in the order a run saw them: equal hashes, equal data order."""
    return hash_text(*ids)


def micro_batches(tokens: list[int], budget: int) -> Iterator[list[int]]:
    """Consecutive indices whose tokens fit the budget; a single item over it travels alone."""
    batch: list[int] = []
    size = 0
    for index, n in enumerate(tokens):
        if batch and size + n > budget:
            yield batch
            batch, size = [], 0
        batch.append(index)
        size += n
    if batch:
        yield batch
