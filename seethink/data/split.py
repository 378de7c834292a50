"""Split kept traces into SFT and RL sets; no calls, so it can be redone at will.

    seethink split --traces runs/data/traces.jsonl --out runs/split --preset strict

Rule `aha` (paper section 2, step 6): a trace with an aha cue is an RL question, one without is an SFT example. RL is a
sample of its pool, capped per source. Rule `all_sft`: every trace is an SFT example whatever it says (style studies
take their RL questions from another file). Sources in `rl_only` never become SFT examples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from seethink.core.errors import UserError
from seethink.core.nouns import Drop, Example
from seethink.core.run import Run
from seethink.core.store import example_row, hash_text, jsonl_writer, sample_row, write_json
from seethink.core.tables import write_table
from seethink.data.balance import HESITATION, Balance
from seethink.data.card import write_card
from seethink.data.config import SplitConfig, SplitRule
from seethink.data.funnel import DROP_COLUMNS, Funnel, print_funnel
from seethink.data.kept import CueCounts, Kept, counted_alike, iter_counted
from seethink.data.load import content_key
from seethink.rewards.check import check_gold
from seethink.traces.lexicon import PRESETS, content_hash, count_trace, load


@dataclass(frozen=True, slots=True)
class KeptLine:
    """What the split must know of a kept row: traces are long, and there may be hundreds of thousands."""

    id: str
    source: str
    content: str
    """What makes two questions the same, see `content_key`."""
    to: Literal["sft", "rl", "none"]
    """Where it belongs: `none` was collected for RL, which its source is not for any more."""
    problem: str = ""
    """Of a row for RL: why its gold cannot be verified."""
    hesitates: bool = False
    """By the lexicon that `Balance` counts with."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The outcome; every kept row is in exactly one of the three."""

    sft: list[KeptLine]
    rl: list[KeptLine]
    drops: list[Drop]


class Cues:
    """Counts traces that each preset flags, and those that only the paper's substrings do."""

    def __init__(self) -> None:
        self.traces, self.flagged = 0, Counter[str]()

    def add(self, hits: set[str]) -> None:
        """One trace, by the names of the presets that find a cue in it."""
        self.traces += 1
        self.flagged.update(hits)
        self.flagged["only paper"] += hits == {"paper"}

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {self.flagged[name]}" for name in (*PRESETS, "only paper"))
        return f"cues in {self.traces} traces: {counts}"


def run(config: SplitConfig, dry_run: bool = False) -> None:
    """The verb. Raises UserError for a bad file or folder."""
    cues, alike = Cues(), counted_alike(config.traces)
    lines = [split_line(kept, counts, config, cues) for kept, counts in iter_counted(config.traces, alike)]
    parts = split(lines, config)
    funnel = Funnel(lines, parts.drops, sft=parts.sft, steps=("split",))
    print_funnel(funnel)
    print(cues)
    if dry_run:
        return
    inputs = {"preset": content_hash(config.preset)}
    with Run.open(
        config.out, "split", config, inputs, keep=True, overwrite=True
    ) as folder:  # costs nothing, redone at will
        write_parts(folder, parts, funnel, (kept for kept, _ in iter_counted(config.traces, alike)))
        write_card(folder.folder)
        folder.finish(sft=len(parts.sft), rl=len(parts.rl), dropped=len(parts.drops))
    print(f"split: finished, {len(parts.sft)} SFT, {len(parts.rl)} RL, {config.out}")


def split_line(kept: Kept, counts: CueCounts | None, rule: SplitRule, cues: Cues) -> KeptLine:
    """A kept row without its texts; `counts` are of its trace."""
    sample, to = kept.sample, "rl"
    if counts is not None:
        cues.add({preset for preset, found in counts.items() if found})
    if sample.source not in rule.rl_only:
        to = (
            "none"
            if counts is None
            else "rl"
            if rule.rule == "aha" and _hesitates(kept, counts, rule.preset)
            else "sft"
        )
    problem, hesitates = check_gold(sample) if to == "rl" else "", bool(counts and counts[HESITATION])
    return KeptLine(sample.id, sample.source, content_key(sample), to, problem, hesitates)


def _hesitates(kept: Kept, counts: CueCounts, lexicon: str) -> bool:
    """Whether the lexicon finds a cue in the trace."""
    if lexicon in counts:
        return bool(counts[lexicon])
    return bool(kept.draft and count_trace(kept.draft.think, kept.draft.answer, load(lexicon)))


def split(kept: list[KeptLine], rule: SplitRule) -> Parts:
    """Parts of kept rows, in the order given. Raises UserError where two rows ask the same about the same image."""
    sft, pools, drops = [], {}, []
    for row in kept:
        if row.to == "rl":
            pools.setdefault(row.source, []).append(row)
        elif row.to == "sft":
            sft.append(row)
        else:
            drops.append(Drop(row.id, row.source, "split", "no_trace", "was collected for RL only"))
    rl = []
    for source, pool in pools.items():
        chosen, left = _choose(pool, rule.rl_caps.get(source, rule.rl_cap), rule.seed)
        rl, drops = rl + chosen, drops + left
    order = {row.id: place for place, row in enumerate(kept)}
    rl.sort(key=lambda row: order[row.id])
    drops.sort(key=lambda drop: order[drop.sample_id])
    seen: dict[str, str] = {}
    for row in (*sft, *rl):  # they share no id, and no question about the same image bytes
        for key in (row.id, row.content):
            if key in seen:
                what = f"rows {seen[key]!r} and {row.id!r} hold the same question"
                raise UserError(what, where="split", remedy="Remove one of them")
            seen[key] = row.id
    assert len(sft) + len(rl) + len(drops) == len(kept), "a row was lost or counted twice"
    return Parts(sft, rl, drops)


def write_parts(folder: Run, parts: Parts, funnel: Funnel, kept: Iterable[Kept]) -> None:
    """sft.jsonl and rl.jsonl of the kept rows, what they are like (balance.json), and who left: drops.parquet, funnel.json."""
    sft, rl = ({row.id: row for row in part} for part in (parts.sft, parts.rl))
    paths, balance = (folder.path("sft.jsonl"), folder.path("rl.jsonl")), Balance()
    with jsonl_writer(paths[0]) as write_sft, jsonl_writer(paths[1]) as write_rl:
        for row in kept:
            if row.sample.id in sft:
                write_sft(example_row(row.example, paths[0]))
                balance.add("sft", row.example, sft[row.sample.id].hesitates)
            elif row.sample.id in rl:
                write_rl(sample_row(row.sample, paths[1]))
                balance.add("rl", Example(row.sample, ""))
    write_table(folder.path("drops.parquet"), list(funnel.drops), DROP_COLUMNS)
    write_json(folder.path("funnel.json"), funnel.rows())
    folder.path("alarms.jsonl").unlink(missing_ok=True)  # of the sets that were here before
    balance.report(folder)


def _choose(pool: list[KeptLine], cap: int | None, seed: int) -> tuple[list[KeptLine], list[Drop]]:
    """At most `cap` rows with a verifiable gold. The choice hangs on ids and seed, not on the order of rows."""
    drops = [Drop(row.id, row.source, "split", "gold_not_verifiable", row.problem) for row in pool if row.problem]
    good = sorted((row for row in pool if not row.problem), key=lambda row: hash_text(str(seed), row.id))
    over = [] if cap is None else good[cap:]
    drops += [Drop(row.id, row.source, "split", "over_cap", f"cap {cap}") for row in over]
    return good[: len(good) - len(over)], drops
