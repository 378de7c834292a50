"""Distil reasoning traces in six steps: metadata -> caption -> distill -> rewrite -> verify -> split.

    seethink data --source samples.jsonl --base_url http://127.0.0.1:8000/v1 --out runs/data
    seethink data --source data.json --format paper --images images --base_url http://127.0.0.1:8000/v1 --out runs/data
    seethink data --source CLEVR-Math --format clevr_math --base_url http://127.0.0.1:8000/v1 --out runs/clevr_math

Every item walks its own steps, so finished samples appear within minutes. Answers live in the ledger of the run folder:
a killed or changed run repeats no call whose question did not change. A failed item is dropped with a reason and asked
again when the same command runs again; only a dead endpoint (one that answers nothing is dead), a refused key, spent credit
or a spent budget stop the run. A finished folder is not written again under other settings, unless --overwrite says so.
Writes traces.jsonl sft.jsonl rl.jsonl drops.parquet funnel.json spend.jsonl card.md. Left out: batch interfaces, shards.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, closing
from string import Template

from seethink.ask import Budget, Ledger
from seethink.core.errors import UserError
from seethink.core.images import hash_pictures
from seethink.core.progress import Progress, progress
from seethink.core.run import Run
from seethink.core.store import hash_file, hash_text, write_json, write_jsonl
from seethink.data.card import write_card
from seethink.data.config import DataConfig
from seethink.data.funnel import Funnel, print_funnel
from seethink.data.kept import save_kept
from seethink.data.load import find_broken, find_duplicates, load_source
from seethink.data.plan import print_plan
from seethink.data.sources import SOURCES
from seethink.data.sources.published import find_rows
from seethink.data.split import print_cues, split, write_parts
from seethink.data.steps import Candidate, Steps, load_prompts, walk
from seethink.traces.lexicon import content_hash

TABLES = ("traces.jsonl", "sft.jsonl", "rl.jsonl", "drops.parquet", "funnel.json")


def run(config: DataConfig, dry_run: bool = False) -> None:
    """The verb. Raises UserError for bad input, a dead endpoint (3) or a spent budget (4); the same call resumes."""
    samples, out, aside = load_source(config.source, config.format, config.images, config.limit)
    if config.format in SOURCES:  # the run hangs on the file of rows, not on all that lies in its folder
        config = config.model_copy(update={"source": find_rows(SOURCES[config.format], config.source)})
    prompts = load_prompts(config.prompts)
    out |= find_broken([sample for sample in samples if sample.id not in out], config.source)
    out |= find_duplicates([sample for sample in samples if sample.id not in out])
    items = [Candidate(sample, drop=out.get(sample.id)) for sample in samples]
    if dry_run:
        path = config.out / "ledger.sqlite"
        with closing(Ledger(path if path.exists() else ":memory:")) as ledger:
            print_plan(items, Steps(config, prompts, ledger, Budget(), dry=True), ledger)
        return
    inputs = {
        "pictures": hash_pictures(samples),
        "prompts": hash_text(*(p.template for p in prompts.values())),
        "split.preset": content_hash(config.split.preset),
    }
    inputs |= {"aside": hash_file(aside)} if aside else {}
    with Run.open(config.out, "data", config, inputs, keep=True, overwrite=config.overwrite) as folder:
        whole = folder.done and all(folder.path(name).exists() for name in TABLES)
        if whole and not folder.summary["failed"]:
            print(f"data: done before, {folder.summary['sft']} SFT, {folder.summary['rl']} RL, {config.out}")
            return
        ask(folder, config, items, prompts)
        finish(folder, config, items)


def ask(folder: Run, config: DataConfig, items: list[Candidate], prompts: dict[str, Template]) -> None:
    """Walk all items. However it ends, what was spent and who still waits is on record."""
    with closing(Ledger(folder.path("ledger.sqlite"))) as ledger:
        budget = Budget(config.budget, ledger.spent())
        steps = Steps(config, prompts, ledger, budget)
        try:
            asyncio.run(walk_all(items, steps, budget))
            check_endpoints(items, steps)
        finally:
            write_jsonl(folder.path("spend.jsonl"), ledger.spending())
            if any(item.kept is None and item.drop is None for item in items):
                pending = {item.sample.id: item.step for item in items if item.drop is None}
                funnel = Funnel([i.sample for i in items], [i.drop for i in items if i.drop], pending)
                write_json(folder.path("funnel.json"), funnel.rows())


def check_endpoints(items: list[Candidate], steps: Steps) -> None:
    """Raises UserError (code 3) where one answered nothing at all: then no item is dropped for it.

    A step that is asked once or twice, as a judge beside rules may be, does not keep the others from being finished.
    """
    kept = any(item.kept and item.kept.draft for item in items)
    try:
        for client in steps.clients:
            client.check_answered(3 if kept else 1)
    except UserError:
        for item in items:
            if item.failed or (item.drop and item.drop.reason == "refused"):
                item.drop = None
        raise


async def walk_all(items: list[Candidate], steps: Steps, budget: Budget) -> None:
    """Walk the items, enough at a time to keep every step busy. What concerns the whole run ends the walk."""
    todo = [item for item in items if item.drop is None]
    queue, dropped = iter(todo), 0
    priced = all(client.endpoint.price is not None for client in steps.clients)

    async def worker(bar: Progress) -> None:
        nonlocal dropped
        for item in queue:  # shared: each item goes to one worker
            await walk(item, steps)
            dropped += item.drop is not None
            bar.advance(1, f"{dropped} dropped, {f'{budget.spent:.2f} USD' if priced else 'cost unknown'}")

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


def finish(folder: Run, config: DataConfig, items: list[Candidate]) -> None:
    """Split what was kept and write every table; the done-mark comes last."""
    kept = [item.kept for item in items if item.kept]
    parts = split(kept, config.split)
    drops = [*(item.drop for item in items if item.drop), *parts.drops]
    funnel = Funnel([item.sample for item in items], drops, sft=[row.sample for row in parts.sft])
    save_kept(folder.path("traces.jsonl"), kept)
    write_parts(folder, parts, funnel)
    write_card(folder.folder)
    print_funnel(funnel)
    print_cues(kept)
    failed = sum(item.failed for item in items)
    folder.finish(samples=len(items), sft=len(parts.sft), rl=len(parts.rl), dropped=len(drops), failed=failed)
    if failed:
        print(f"{failed} items got no answer from the endpoint; the same command asks for them again")
