"""Distil reasoning traces in six steps: metadata -> caption -> distill -> rewrite -> verify -> split.

    seethink data --source samples.jsonl --base_url http://127.0.0.1:8000/v1 --out runs/data
    seethink data --source data.json --format paper --images images --base_url http://127.0.0.1:8000/v1 --out runs/data
    seethink data --source CLEVR-Math --format clevr_math --base_url http://127.0.0.1:8000/v1 --out runs/clevr_math

Every item walks its own steps, so finished samples appear within minutes. Answers live in the ledger of the run folder:
a killed or changed run repeats no call whose question did not change, and what was settled is not walked again
(outcomes.sqlite). Texts stand there and not in memory. A failed item is dropped with a reason and asked
again when the same command runs again; only a dead endpoint (one that answers nothing is dead), a refused key, spent credit
or a spent budget stop the run. A finished folder is not written again under other settings, unless --overwrite says so.
Writes traces.jsonl sft.jsonl rl.jsonl drops.parquet funnel.json spend.jsonl. Left out: shards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing
from functools import partial
from string import Template

from seethink.ask import Budget, Ledger, NotCached, tell_lost
from seethink.ask.batch_book import BatchBook
from seethink.core.errors import UserError
from seethink.core.progress import Progress, progress
from seethink.core.run import Run
from seethink.core.store import hash_file, hash_text, jsonl_writer, write_json, write_jsonl
from seethink.data.batches import Wait, check_open, print_next_batch, walk_in_rounds
from seethink.data.checked import FILE as ROWS
from seethink.data.checked import check_rows
from seethink.data.config import DataConfig
from seethink.data.funnel import Funnel, print_funnel
from seethink.data.kept import Kept, count_cues, kept_line
from seethink.data.outcomes import FILE, Ended, OutcomeStore, open_outcomes, outcome_keys
from seethink.data.plan import print_plan
from seethink.data.sources import SOURCES
from seethink.data.sources.published import find_rows
from seethink.data.split import Cues, split, split_line, write_parts
from seethink.data.steps import Candidate, Steps, kept_row, load_prompts, walk
from seethink.traces.lexicon import content_hash

TABLES = ("traces.jsonl", "sft.jsonl", "rl.jsonl", "drops.parquet", "funnel.json")


def run(config: DataConfig, dry_run: bool = False) -> None:
    """The verb. Raises UserError for bad input, a dead endpoint (3) or a spent budget (4); the same call resumes."""
    with closing(check_rows(config)) as checked:
        if config.format in SOURCES:  # the run hangs on the file of rows, not on all that lies in its folder
            config = config.model_copy(update={"source": find_rows(SOURCES[config.format], config.source)})
        prompts = load_prompts(config.prompts)
        keys = outcome_keys(((row.source, row.hash) for row in checked.rows), config, prompts)
        items = [
            Candidate(row.id, row.source, partial(checked.sample, place), key, drop=row.drop)
            for place, (row, key) in enumerate(zip(checked.rows, keys, strict=True))
        ]
        if dry_run:
            path = config.out / "ledger.sqlite"
            with closing(Ledger(path if path.exists() else ":memory:")) as ledger:
                steps = Steps(config, prompts, ledger, Budget(), dry=True)
                print_plan(items, steps, ledger)
                if steps.by_batch:
                    with BatchBook(ledger.path) as book:
                        print_next_batch(items, steps, book)
            return
        inputs = {
            "pictures": checked.pictures,
            "prompts": hash_text(*(p.template for p in prompts.values())),
            "split.preset": content_hash(config.split.preset),
        }
        inputs |= {"aside": hash_file(checked.aside)} if checked.aside else {}
        with Run.open(config.out, "data", config, inputs, keep=True, overwrite=config.overwrite) as folder:
            whole = folder.done and all(folder.path(name).exists() for name in TABLES)
            if whole and not folder.summary["failed"]:
                print(f"data: done before, {folder.summary['sft']} SFT, {folder.summary['rl']} RL, {config.out}")
                return
            checked.keep(folder.path(ROWS))
            walk_and_finish(folder, config, prompts, items)


def walk_and_finish(folder: Run, config: DataConfig, prompts: dict[str, Template], items: list[Candidate]) -> None:
    """What is not settled, and then every table."""
    store, settled = open_outcomes(folder.path(FILE), folder.path("ledger.sqlite"))
    with store, closing(Ledger(folder.path("ledger.sqlite"))) as ledger, BatchBook(ledger.path) as book:
        steps = Steps(config, prompts, ledger, Budget(config.budget, ledger.spent() + book.reserved()))
        steps.credit(recall(items, settled))
        del settled
        ask(folder, items, steps, store, book)
        finish(folder, config, items, store)


def recall(items: list[Candidate], settled: dict[str, Ended]) -> list[Ended]:
    """Take items to where an earlier process has left them, by what is settled; what was of use is returned."""
    before = []
    for item in items:
        if item.drop is None and (end := settled.get(item.key)):
            item.step, item.drop = end.step, end.drop
            before.append(end)
    return before


def ask(folder: Run, items: list[Candidate], steps: Steps, store: OutcomeStore, book: BatchBook) -> None:
    """Walk all items. However it ends, what was spent and who still waits is on record."""
    tell_lost(steps.ledger)
    check_open(steps, book)
    try:
        if steps.by_batch:
            asyncio.run(walk_in_rounds(partial(walk_all, items, steps, store), steps, book, folder.folder))
        else:
            asyncio.run(walk_all(items, steps, store))
        check_endpoints(items, steps)
    finally:
        write_jsonl(folder.path("spend.jsonl"), steps.ledger.spending())
        tell_lost(steps.ledger)
        if any(item.waits for item in items):
            pending = {item.id: item.step for item in items if item.drop is None}
            funnel = Funnel(items, [i.drop for i in items if i.drop], pending)
            write_json(folder.path("funnel.json"), funnel.rows())


def check_endpoints(items: list[Candidate], steps: Steps) -> None:
    """Raises UserError (code 3) where one answered nothing at all: then no item is dropped for it.

    A step that is asked once or twice, as a judge beside rules may be, does not keep the others from being finished.
    """
    kept = any(item.kept and item.source not in steps.config.split.rl_only for item in items)
    try:
        for client in steps.clients:
            client.check_answered(3 if kept else 1)
    except UserError:
        for item in items:
            if item.failed or (item.drop and item.drop.reason == "refused"):
                item.drop = None
        raise


async def walk_all(items: list[Candidate], steps: Steps, store: OutcomeStore, wait: Wait | None = None) -> None:
    """Walk the items, enough at a time to keep every step busy. What concerns the whole run ends the walk.

    Items stop at a call that goes in a batch, which `wait` takes.
    """
    todo = [item for item in items if item.waits]
    queue, dropped = iter(todo), 0
    priced = all(client.endpoint.price is not None for client in steps.clients)

    async def worker(bar: Progress) -> None:
        nonlocal dropped
        for item in queue:  # shared: each item goes to one worker
            try:
                outcome = await walk(item, steps)
            except NotCached as missing:
                if wait is None:
                    raise
                await wait(missing.call)
            else:
                if outcome.lasting:
                    store.put(item.key, outcome)
            dropped += item.drop is not None
            bar.advance(1, f"{dropped} dropped, {f'{steps.budget.spent:.2f} USD' if priced else 'cost unknown'}")

    with progress("data", len(todo)) as bar:
        async with AsyncExitStack() as stack:
            for client in steps.clients:
                await stack.enter_async_context(client)
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(len(todo), len(steps.clients) * steps.config.in_flight)):
                        group.create_task(worker(bar))
            except ExceptionGroup as group:
                raise group.exceptions[0] from None


def finish(folder: Run, config: DataConfig, items: list[Candidate], store: OutcomeStore) -> None:
    """Write every table, of texts one at a time; the done-mark comes last."""
    path, lines, cues = folder.path("traces.jsonl"), [], Cues()
    with jsonl_writer(path) as write:
        for kept in kept_rows(items, store):
            counts = count_cues(kept)
            write(kept_line(kept, path, counts))
            lines.append(split_line(kept, counts, config.split, cues))
    parts = split(lines, config.split)
    drops = [*(item.drop for item in items if item.drop), *parts.drops]
    funnel = Funnel(items, drops, sft=parts.sft)
    write_parts(folder, parts, funnel, kept_rows(items, store))
    store.keep(item.key for item in items)
    print_funnel(funnel)
    print(cues)
    failed = sum(item.failed for item in items)
    folder.finish(samples=len(items), sft=len(parts.sft), rl=len(parts.rl), dropped=len(drops), failed=failed)
    if failed:
        print(f"{failed} items got no answer from the endpoint; the same command asks for them again")


def kept_rows(items: list[Candidate], store: OutcomeStore) -> Iterator[Kept]:
    """Everything that came through, in order."""
    for item in items:
        if item.kept:
            outcome = store.find(item.key)
            assert outcome, f"{item.id} came through and has no outcome"
            yield kept_row(item.sample, outcome)
