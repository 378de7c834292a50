"""Split kept traces into SFT and RL sets; no calls, so it can be redone at will.

    seethink split --traces runs/data/traces.jsonl --out runs/split --preset strict

Rule `aha` (paper section 2, step 6): a trace with an aha cue is an RL question, one without is an SFT example. RL is a
sample of its pool, capped per source. Rule `all_sft`: every trace is an SFT example whatever it says (style studies
take their RL questions from another file). Sources in `rl_only` never become SFT examples.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from seethink.core.errors import UserError
from seethink.core.nouns import Drop
from seethink.core.run import Run
from seethink.core.store import hash_text, save_examples, save_samples, write_json
from seethink.core.tables import write_table
from seethink.data.card import write_card
from seethink.data.config import SplitConfig, SplitRule
from seethink.data.funnel import DROP_COLUMNS, Funnel, print_funnel
from seethink.data.kept import Kept, load_kept
from seethink.data.load import content_key
from seethink.rewards.check import check_gold
from seethink.traces.lexicon import PRESETS, content_hash, count_trace, load


@dataclass(frozen=True, slots=True)
class Parts:
    """The outcome; every kept row is in exactly one of the three."""

    sft: list[Kept]
    rl: list[Kept]
    drops: list[Drop]


def run(config: SplitConfig, dry_run: bool = False) -> None:
    """The verb. Raises UserError for a bad file or folder."""
    kept = load_kept(config.traces)
    parts = split(kept, config)
    funnel = Funnel([k.sample for k in kept], parts.drops, sft=[k.sample for k in parts.sft], steps=("split",))
    print_funnel(funnel)
    print_cues(kept)
    if dry_run:
        return
    inputs = {"preset": content_hash(config.preset)}
    with Run.open(
        config.out, "split", config, inputs, keep=True, overwrite=True
    ) as folder:  # costs nothing, redone at will
        write_parts(folder, parts, funnel)
        write_card(folder.folder)
        folder.finish(sft=len(parts.sft), rl=len(parts.rl), dropped=len(parts.drops))


def split(kept: list[Kept], rule: SplitRule) -> Parts:
    """Parts of kept rows, in the order given. Raises UserError where two rows ask the same about the same image."""
    lexicon = load(rule.preset)
    sft, pools, drops = [], {}, []
    for row in kept:
        sample, draft = row.sample, row.draft
        if sample.source in rule.rl_only:
            pools.setdefault(sample.source, []).append(row)
        elif draft is None:
            drops.append(Drop(sample.id, sample.source, "split", "no_trace", "was collected for RL only"))
        elif rule.rule == "aha" and count_trace(draft.think, draft.answer, lexicon):
            pools.setdefault(sample.source, []).append(row)
        else:
            sft.append(row)
    rl = []
    for source, pool in pools.items():
        chosen, left = _choose(pool, rule.rl_caps.get(source, rule.rl_cap), rule.seed)
        rl, drops = rl + chosen, drops + left
    order = {row.sample.id: place for place, row in enumerate(kept)}
    rl.sort(key=lambda row: order[row.sample.id])
    drops.sort(key=lambda drop: order[drop.sample_id])
    seen: dict[str, str] = {}
    for row in (*sft, *rl):  # they share no id, and no question about the same image bytes
        for key in (row.sample.id, content_key(row.sample)):
            if key in seen:
                what = f"rows {seen[key]!r} and {row.sample.id!r} hold the same question"
                raise UserError(what, where="split", remedy="Remove one of them")
            seen[key] = row.sample.id
    assert len(sft) + len(rl) + len(drops) == len(kept), "a row was lost or counted twice"
    return Parts(sft, rl, drops)


def write_parts(folder: Run, parts: Parts, funnel: Funnel) -> None:
    """sft.jsonl and rl.jsonl, and who left where: drops.parquet and funnel.json."""
    save_examples(folder.path("sft.jsonl"), (row.example for row in parts.sft))
    save_samples(folder.path("rl.jsonl"), (row.sample for row in parts.rl))
    write_table(folder.path("drops.parquet"), list(funnel.drops), DROP_COLUMNS)
    write_json(folder.path("funnel.json"), funnel.rows())


def print_cues(kept: list[Kept]) -> None:
    """How many traces each preset flags, and how many only the paper's substrings do."""
    flagged: Counter[str] = Counter()
    traced = [row.draft for row in kept if row.draft]
    for draft in traced:
        hits = {preset for preset in PRESETS if count_trace(draft.think, draft.answer, load(preset))}
        flagged.update(hits)
        flagged["only paper"] += hits == {"paper"}
    print(f"cues in {len(traced)} traces: " + ", ".join(f"{name} {flagged[name]}" for name in (*PRESETS, "only paper")))


def _choose(pool: list[Kept], cap: int | None, seed: int) -> tuple[list[Kept], list[Drop]]:
    """At most `cap` rows with a verifiable gold. The choice hangs on ids and seed, not on the order of rows."""
    drops, good = [], []
    for row in pool:
        if problem := check_gold(row.sample):
            drops.append(Drop(row.sample.id, row.sample.source, "split", "gold_not_verifiable", problem))
        else:
            good.append(row)
    good.sort(key=lambda row: hash_text(str(seed), row.sample.id))
    over = [] if cap is None else good[cap:]
    drops += [Drop(row.sample.id, row.sample.source, "split", "over_cap", f"cap {cap}") for row in over]
    return good[: len(good) - len(over)], drops
