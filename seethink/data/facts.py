"""What a data run was and what came of it, from its folder alone: for its page, its card, and whoever publishes the data."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seethink.core.config import build
from seethink.core.errors import UserError
from seethink.core.run import read_log
from seethink.core.store import hash_text, read_jsonl, read_record
from seethink.core.tables import read_table
from seethink.data.checked import check_rows
from seethink.data.config import ROLES, DataConfig
from seethink.data.funnel import DROP_COLUMNS, Funnel
from seethink.data.outcomes import FILE as OUTCOMES
from seethink.data.outcomes import Ended, OutcomeStore, outcome_keys
from seethink.data.sources import SOURCES
from seethink.data.steps import load_prompts

SIMULATED = re.compile(r"simulated|^pocket-", re.IGNORECASE)
"""In the name of a model: rules that write like one, as `seethink pocket teach` serves them."""

WAITS = "waiting"
"""The reason of a row that has not ended, where a run was interrupted."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Who was asked in a step, and what it cost."""

    step: str
    model: str
    """As the settings name it."""
    served: tuple[str, ...]
    """As the endpoint named it; empty where nothing was asked."""
    price: tuple[float, float] | None
    """USD per million prompt, completion tokens."""
    calls: int = 0
    attempts: int = 0
    lost: int = 0
    """Requests that were sent and whose answers never came: possibly paid, and counted as paid."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float | None = 0.0
    """Of all attempts; None where a price was not known."""


@dataclass(frozen=True, slots=True)
class DataFacts:
    """A data run as its folder tells it."""

    folder: Path
    config: dict[str, Any]
    manifest: dict[str, Any]
    summary: dict[str, Any]
    funnel: list[dict[str, Any]]
    """One row per source and step, as in funnel.json."""
    asked: list[Asked]
    prompts: dict[str, str]
    """Name -> hash; empty where the prompts are no longer those of the run."""
    licences: dict[str, dict[str, int]]
    """Source -> licence as its rows name it ("" for none) -> rows that were kept."""
    ends: dict[str, tuple[str, str, str]]
    """Sample id -> (source, step, reason); of a kept row the step is split and the reason sft or rl."""
    details: dict[str, str]
    """Sample id of a dropped row -> what its drop said."""
    alarms: list[str]

    @property
    def sources(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of the funnel by source, in the order of the steps."""
        found: dict[str, list[dict[str, Any]]] = {}
        for row in self.funnel:
            found.setdefault(row["source"], []).append(row)
        return found

    @property
    def usd(self) -> float | None:
        """Of the whole run; None where a price was not known."""
        costs = [a.usd for a in self.asked if a.usd is not None]
        return sum(costs) if len(costs) == len(self.asked) else None

    @property
    def outcome(self) -> str:
        """What came of it, in words."""
        last = [rows[-1] for rows in self.sources.values()]
        if any(reason == WAITS for _, _, reason in self.ends.values()):
            return f"{sum(row['in'] for row in last):,} came through so far"
        return f"{sum(row['sft'] for row in last):,} to SFT, {sum(row['rl'] for row in last):,} to RL"

    @property
    def told(self) -> dict[str, str]:
        """What else the data hang on, in words: source, prompts, rules, versions. No path of a machine is among it."""
        c, m, split = self.config, self.manifest, self.config["split"]
        cap = "none" if split["rl_cap"] is None else f"{split['rl_cap']:,}"
        caps = ", ".join(f"{source} {n:,}" for source, n in split["rl_caps"].items())
        return {
            "Source": f"{Path(c['source']).name}, hash {m['inputs'].get('source')}, read as {c['format']}",
            "Prompts": ", ".join(f"{name} {value}" for name, value in self.prompts.items())
            or f"{m['inputs'].get('prompts')} together; their files are no longer those of the run",
            "Captions": "the source's own where it has one; " + (", ".join(c["context_is_caption"]) or "no source")
            + " by text of the source",
            "Traces": "the source's own where it has one" if c["reuse"] else "distilled",
            "Rewriting": f"may change the length by {c['max_gap']} words",
            "Verified": "by rules, the rest by a judge" if c["rule_first"] else "all by a judge",
            "Split": f"{split['rule']}, cues {Path(split['preset']).name}, seed {split['seed']}, cap of RL {cap}"
            + (f" ({caps})" if caps else ""),
            "RL only": ", ".join(split["rl_only"]) or "no source",
            "Sampling": "; ".join(
                f"{role} " + (", ".join(f"{k} {v}" for k, v in c[role]["params"].items()) or "as the endpoint has it")
                for role in ROLES.values()
            ),
            "Made by": f"seethink {m.get('seethink')}, commit {(m.get('git') or 'not known')[:10]}, begun {m.get('started')}",
        }  # fmt: skip

    @property
    def warnings(self) -> list[str]:
        """What a reader of the numbers should know first, in words."""
        names = dict.fromkeys(name for a in self.asked for name in a.served or (a.model,))
        simulated = [name for name in names if SIMULATED.search(name)]
        lost = sum(a.lost for a in self.asked)
        unpriced = [a.step for a in self.asked if a.usd is None]
        said = []
        if waits := sum(reason == WAITS for _, _, reason in self.ends.values()):
            said.append(f"Not finished: {waits:,} of {len(self.ends):,} rows wait; the same command goes on with them.")
        if simulated:
            said.append(f"Simulated: {', '.join(simulated)} are rules that write like a model, not models.")
        if limit := self.config.get("limit"):
            said.append(f"Not the whole source: a trial on its first {limit:,} rows.")
        if failed := self.summary.get("failed"):
            said.append(f"{failed:,} items got no answer; the same command asks for them again.")
        if lost:
            said.append(f"{lost:,} requests left and no answer is on record: possibly paid, and counted as paid.")
        if unpriced:
            said.append(f"What it cost is not known: {', '.join(unpriced)} had no price.")
        bare = [
            source or "rows of no source"
            for source, found in self.licences.items()
            if {"", "none stated"} & found.keys()
        ]
        if bare:
            said.append(f"No licence is named for {', '.join(bare)}: find out before you pass them on.")
        return [*said, *self.alarms]


def read_facts(folder: Path) -> DataFacts:
    """Also of a run that was interrupted, if its source is still there. Raises UserError where the folder holds no data run."""
    if not is_data_run(folder):
        raise UserError("no data run", where=folder, remedy="Give a folder that `seethink data` wrote")
    config = read_record(folder / "config.json")
    manifest = read_record(folder / "manifest.json")
    done = folder / "done.json"
    finished = done.is_file() and read_record(done)["key"] == manifest["key"]
    funnel, ends, details = _finished(folder) if finished else _interrupted(folder, config)
    return DataFacts(
        folder=folder,
        config=config,
        manifest=manifest,
        summary=read_record(done)["summary"] if finished else {},
        funnel=funnel,
        asked=_asked(folder, config),
        prompts=_prompts(config, manifest),
        licences=_licences(folder, config) if finished else {},
        ends=ends,
        details=details,
        alarms=[str(row["text"]) for row in read_log(folder / "alarms.jsonl")],
    )


def is_data_run(folder: Path) -> bool:
    """Whether `seethink data` wrote it."""
    manifest = folder / "manifest.json"
    return manifest.is_file() and read_record(manifest).get("verb") == "data"


def summed(sources: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Rows of several sources as those of one."""
    found = []
    for rows in zip(*sources.values(), strict=True):
        row: dict[str, Any] = {"source": "", "step": rows[0]["step"], "dropped": {}}
        for name in ("in", "out", "pending", "sft", "rl"):
            if name in rows[0]:
                row[name] = sum(r[name] for r in rows)
        for reason, n in (pair for r in rows for pair in r["dropped"].items()):
            row["dropped"][reason] = row["dropped"].get(reason, 0) + n
        found.append(row)
    return found


Went = tuple[list[dict[str, Any]], dict[str, tuple[str, str, str]], dict[str, str]]
"""Funnel, ends and details, as in DataFacts."""


def _finished(folder: Path) -> Went:
    drops = read_table(folder / "drops.parquet", DROP_COLUMNS)
    ends = {drop["sample_id"]: (drop["source"], drop["step"], drop["reason"]) for drop in drops}
    for part in ("sft", "rl"):
        ends |= {row["id"]: (row["source"], "split", part) for _, row in read_jsonl(folder / f"{part}.jsonl")}
    return read_record(folder / "funnel.json"), ends, {drop["sample_id"]: drop["detail"] for drop in drops}


def _interrupted(folder: Path, config: dict[str, Any]) -> Went:
    """By what is settled; whoever is not may have come further than the step where it is said to wait, the first that asks."""
    settings = build(DataConfig, config).model_copy(update={"out": folder})
    with closing(check_rows(settings)) as checked:
        rows = checked.rows
    keys = outcome_keys(((row.source, row.hash) for row in rows), settings, load_prompts(settings.prompts))
    settled: dict[str, Ended] = {}
    if (folder / OUTCOMES).is_file():
        with OutcomeStore(folder / OUTCOMES) as store:
            settled = store.settled()
    drops, waits, ends = [], {}, {}
    for row, key in zip(rows, keys, strict=True):
        end = settled.get(key)
        if drop := row.drop or (end.drop if end else None):
            drops.append(drop)
            ends[row.id] = (row.source, drop.step, drop.reason)
        else:
            waits[row.id] = end.step if end else "caption"
            ends[row.id] = (row.source, waits[row.id], WAITS)
    return Funnel(rows, drops, waits).rows(), ends, {drop.sample_id: drop.detail for drop in drops}


def _licences(folder: Path, config: dict[str, Any]) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = {}
    published = SOURCES if config["format"] == "paper" else {}  # whose file names none
    for _, row in read_jsonl(folder / "traces.jsonl"):
        named = row["licence"] or (published[row["source"]].licence if row["source"] in published else "")
        found.setdefault(row["source"], Counter())[named] += 1
    return {source: dict(named.most_common()) for source, named in found.items()}


def _asked(folder: Path, config: dict[str, Any]) -> list[Asked]:
    spent, found = [row for _, row in read_jsonl(folder / "spend.jsonl")], []
    for step, role in ROLES.items():
        settings = config[role]
        row = next((r for r in spent if (r["step"], r["model"]) == (step, settings["model"])), {})
        names = Asked.__dataclass_fields__.keys() & row.keys() - {"step", "model", "served", "price"}
        numbers = {name: row[name] or 0 if name != "usd" else row[name] for name in names}
        price = settings["price"] or row.get("price")
        served = tuple(filter(None, row.get("served") or ()))
        found.append(Asked(step, settings["model"], served, tuple(price) if price else None, **numbers))
    return found


def _prompts(config: dict[str, Any], manifest: dict[str, Any]) -> dict[str, str]:
    """Hashes of the prompts, if together they are still what the run was asked with."""
    try:
        prompts = load_prompts(Path(config["prompts"]) if config["prompts"] else None)
    except UserError:
        return {}
    whole = hash_text(*(p.template for p in prompts.values()))
    same = whole == manifest["inputs"].get("prompts")
    return {name: hash_text(p.template) for name, p in prompts.items()} if same else {}
