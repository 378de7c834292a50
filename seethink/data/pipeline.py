"""Distil reasoning traces in six steps: metadata -> caption -> distill -> rewrite -> verify -> split.

    seethink data --source samples.jsonl --base_url http://127.0.0.1:8000/v1 --out runs/data
    seethink data --source data.json --format paper --images images --base_url http://127.0.0.1:8000/v1 --out runs/data
    seethink data --source CLEVR-Math --format clevr_math --base_url http://127.0.0.1:8000/v1 --out runs/clevr_math

Every item walks its own steps, so finished samples appear within minutes. Answers live in the ledger of the run folder:
a killed or changed run repeats no call whose question did not change, and what was settled is not walked again
(outcomes.sqlite). Texts stand there and not in memory. A failed item is dropped with a reason and asked
again when the same command runs again; only a dead endpoint (one that answers nothing is dead), a refused key, spent credit
or a spent budget stop the run. A finished folder is not written again under other settings, unless --overwrite says so.
Writes traces.jsonl sft.jsonl rl.jsonl drops.parquet funnel.json spend.jsonl card.md. Parts of
the rows go to several machines (--shard); `--pilot 50` asks a few items first and says what all of them will cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, closing
from functools import partial
from pathlib import Path
from string import Template
from typing import Any

from seethink.ask import Budget, CallFailed, Ledger, NotCached, tell_lost
from seethink.ask.batch_book import BatchBook
from seethink.core.errors import UserError
from seethink.core.progress import Progress, progress
from seethink.core.run import Run
from seethink.core.store import hash_file, hash_text, jsonl_writer, write_json, write_jsonl
from seethink.data.accept import Quota, in_order, leave, missing
from seethink.data.batches import Wait, check_open, walk_in_rounds
from seethink.data.card import write_card
from seethink.data.checked import FILE as ROWS
from seethink.data.checked import CheckedRows, check_rows
from seethink.data.config import DataConfig
from seethink.data.contamination import content_of
from seethink.data.funnel import Funnel, print_funnel
from seethink.data.kept import Kept, count_cues, counting, kept_line
from seethink.data.outcomes import FILE, Ended, OutcomeStore, open_outcomes, outcome_keys
from seethink.data.parts import draw
from seethink.data.plan import look_ahead
from seethink.data.sources import SOURCES
from seethink.data.sources.published import find_rows
from seethink.data.split import Cues, split, split_line, write_parts
from seethink.data.steps import Candidate, Steps, kept_row, load_prompts, walk
from seethink.traces.lexicon import content_hash

LEDGER, PILOT = "ledger.sqlite", "pilot.json"
TABLES = ("traces.jsonl", "sft.jsonl", "rl.jsonl", "drops.parquet", "funnel.json")


def run(config: DataConfig, dry_run: bool = False, join: Callable[[Path], dict[str, CallFailed]] | None = None) -> None:
    """The verb. Raises UserError for bad input, a dead endpoint (3) or a spent budget (4); the same call resumes.

    `join` fills the ledger whose path it gets and returns the questions that have no answer, by key: then nothing is asked.
    """
    with closing(check_rows(config)) as checked:
        if config.format in SOURCES:  # the run hangs on the file of rows, not on all that lies in its folder
            config = config.model_copy(update={"source": find_rows(SOURCES[config.format], config.source)})
        prompts = load_prompts(config.prompts)
        items = candidates(checked, config, prompts)
        asked = draw(items, config) if config.pilot else items
        if dry_run:
            look_ahead(asked, config, prompts, config.out / LEDGER)
            return
        inputs = what_is_read(config, checked, prompts)
        with Run.open(config.out, "data", config, inputs, keep=True, overwrite=config.overwrite) as folder:
            whole = folder.done and all(folder.path(name).exists() for name in TABLES)
            if whole and not folder.summary["failed"]:
                print(f"data: done before, {folder.summary['sft']} SFT, {folder.summary['rl']} RL, {config.out}")
                return
            failed = join(folder.path(LEDGER)) if join else None
            checked.keep(folder.path(ROWS))
            store, settled = open_outcomes(folder.path(FILE), folder.path(LEDGER))
            with store, closing(Ledger(folder.path(LEDGER))) as ledger, BatchBook(ledger.path) as book:
                budget = Budget(config.budget, ledger.spent() + book.reserved())
                steps = Steps(config, prompts, ledger, budget, dry=failed is not None)
                for client in steps.clients:
                    client.failed = failed or {}
                steps.credit(recall(items, settled))
                del settled
                ask(folder, asked, steps, store, book)
                if not config.pilot:
                    finish(folder, config, items, store)
            if config.pilot:  # what all others will take; a pilot finishes nothing
                plan = look_ahead(candidates(checked, config, prompts), config, prompts, folder.path(LEDGER))
                write_json(folder.path(PILOT), {"asked": [item.id for item in asked], "plan": plan})
                what = f"pilot of {len(asked)} items, {folder.path(PILOT)}"
                print(f"{what}: no finished run; the same command without --pilot goes on")


def candidates(checked: CheckedRows, config: DataConfig, prompts: dict[str, Template]) -> list[Candidate]:
    """Every row at its beginning."""
    keys = outcome_keys(((row.source, row.hash) for row in checked.rows), config, prompts)
    return [
        Candidate(row.id, row.source, partial(checked.sample, place), key, drop=row.drop)
        for place, (row, key) in enumerate(zip(checked.rows, keys, strict=True))
    ]


def what_is_read(config: DataConfig, checked: CheckedRows, prompts: dict[str, Template]) -> dict[str, str]:
    """Hashes of what the run reads beside the file of its rows; and which part of that it is."""
    inputs = {
        "pictures": checked.pictures,
        "prompts": hash_text(*(p.template for p in prompts.values())),
        "split.preset": content_hash(config.split.preset),
        "decontaminate": content_of(config.decontaminate),
    }
    inputs |= {"aside": hash_file(checked.aside)} if checked.aside else {}
    return inputs | ({"shard": config.shard} if config.shard else {})


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
        write_jsonl(folder.path("spend.jsonl"), spending(steps))
        tell_lost(steps.ledger)
        if any(item.waits for item in items):
            pending = {item.id: item.step for item in items if item.drop is None}
            funnel = Funnel(items, [i.drop for i in items if i.drop], pending)
            write_json(folder.path("funnel.json"), funnel.rows())


def spending(steps: Steps) -> list[dict[str, Any]]:
    """What was spent by step and model; with the price of today, of models that are asked, and who says so."""
    prices = {(step, c.endpoint.model): c.price for step, c in zip(steps.config.roles, steps.clients, strict=True)}
    rows = []
    for row in steps.ledger.spending():
        price = prices.get((row["step"], row["model"]))  # one model may be asked at two places, at two prices
        rows.append({**row, "price": price and price.usd, "price_from": price and price.origin})
    return rows


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
    accept = 0 if steps.config.pilot else steps.config.accept
    todo = in_order(items, accept, steps.config.seed)
    queue, dropped, quota = iter(todo), 0, Quota(accept)
    priced = all(client.price.usd is not None for client in steps.clients)

    async def take(item: Candidate) -> None:
        try:
            outcome = await walk(item, steps)
        except NotCached as missing:
            if wait is None:
                raise
            await wait(missing.call)
        else:
            if outcome.lasting:
                store.put(item.key, outcome)

    async def worker(bar: Progress) -> None:
        nonlocal dropped
        while await quota.admit():
            if (item := next(queue, None)) is None:  # shared: each item goes to one worker
                return await quota.settle(False)
            if item.waits:  # with accept, others count that have ended before
                await take(item)
            await quota.settle(item.kept)
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
    leave(queue, steps.config.accept)


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
    write_card(folder.folder)
    print_funnel(funnel)
    print(cues)
    failed = sum(item.failed for item in items)
    tried = sum(item.drop is None or item.drop.step != "metadata" for item in items)
    for name, text in missing(len(lines), tried, config.accept).items():
        folder.alarm(name, text)
    counts = {
        "samples": len(items),
        "sft": len(parts.sft),
        "rl": len(parts.rl),
        "dropped": len(drops),
        "failed": failed,
    }
    folder.finish(**counts, **counting(path))
    print(f"data: finished, {counts['sft']} SFT, {counts['rl']} RL, {folder.folder}")
    if failed:
        print(f"{failed} items got no answer from the endpoint; the same command asks for them again")


def kept_rows(items: list[Candidate], store: OutcomeStore) -> Iterator[Kept]:
    """Everything that came through, in order."""
    for item in items:
        if item.kept:
            outcome = store.find(item.key)
            assert outcome, f"{item.id} came through and has no outcome"
            yield kept_row(item.sample, outcome)
