"""The report of a data run: report.html, and a card without rows, card.html, in its folder.

    seethink data ...            writes them at its end
    seethink report runs/data    writes them again, also of a run that was interrupted

The funnel, every number of which leads to its rows; rows as cards with their six stages; who was asked, what it cost. All of
it lies in one file, which works from the disk. The card holds no row and no picture, so that it can go where the data go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from markupsafe import Markup

from seethink.core.config import build
from seethink.core.errors import UserError
from seethink.core.nouns import Sample
from seethink.core.run import Run
from seethink.core.store import hash_path, hash_text, load_samples, write_text
from seethink.data.checked import check_rows
from seethink.data.config import DataConfig
from seethink.data.facts import DataFacts, read_facts, summed
from seethink.data.funnel import STEPS
from seethink.data.outcomes import FILE, Outcome, OutcomeStore
from seethink.data.steps import load_prompts
from seethink.show.pages import asset, environment, thumbnail_uri
from seethink.show.stages import UNREAD, ShownRow, card, retrace, visible
from seethink.show.view import call
from seethink.traces import lexicon

MOST_ROWS = 40  # of every source, step and reason
MOST_CARDS = 400
MOST_TEXT, MOST_PICTURES = 6_000_000, 8_000_000  # bytes of all cards, and of all pictures as they stand in the page
MOST_PICTURE = 160_000  # bytes of one picture; less where there are many
PAGES = {"report.html": "data.html.j2", "card.html": "data_card.html.j2"}


def write(folder: Path, out: Path | None = None) -> None:
    """Into the run's folder, or into `out`. Raises UserError where there is no data run, or another process is writing it."""
    with Run(folder, ""):  # nobody else is writing it
        page = assemble(read_facts(folder))
    for name, template in PAGES.items():
        pages = environment()
        pages.filters["visible"] = visible
        pages.finalize = lambda value: visible(value) if type(value) is str else value
        text = pages.get_template(template).render(page)
        write_text((out or folder) / name, text.encode("utf-8", "replace").decode())


def assemble(facts: DataFacts) -> dict[str, Any]:
    """Everything the templates print."""
    config = build(DataConfig, facts.config).model_copy(update={"out": facts.folder})
    chosen = choose(facts.ends, config.split.seed)
    samples, gone = read_samples(facts, config, set(chosen))
    cards, pictures = page_cards(shown_rows(facts, chosen, samples, config), config)
    order = {visible(sample_id): place for place, sample_id in enumerate(samples)}
    cards.sort(key=lambda made: order.get(made["id"], len(order)))
    ends = [[*map(visible, end), n] for end, n in Counter(facts.ends.values()).items()]
    return {
        "css": [asset(name) for name in ("base.css", "report.css", "eval.css", "data.css")],
        "script": asset("data.js"),
        "facts": facts,
        "title": facts.folder.resolve().name,
        "steps": STEPS,
        "whole": summed(facts.sources),
        "warnings": [*facts.warnings, *([gone] if gone else [])],
        "shown": len(cards),
        "total": len(facts.ends),
        "data": Markup(call("seethink", {"steps": STEPS, "ends": ends, "cards": cards, "pictures": pictures})),
    }


def read_samples(facts: DataFacts, config: DataConfig, chosen: set[str]) -> tuple[dict[str, Sample], str]:
    """(the chosen samples by id, in the order of the source; why there are only those that were kept)."""
    try:
        if hash_path(config.source) == facts.manifest["inputs"].get("source"):
            with closing(check_rows(config)) as checked:
                rows = enumerate(checked.rows)
                return {row.id: checked.sample(place) for place, row in rows if row.id in chosen}, ""
        why = "the source has changed since"
    except UserError as fault:
        why = f"the source cannot be read: {fault.what}"
    kept = facts.folder / "traces.jsonl"
    samples = load_samples(kept) if kept.is_file() and kept.stat().st_size else []
    return {s.id: s for s in samples if s.id in chosen}, f"Of dropped rows only the reason is shown; {why}."


def choose(ends: dict[str, tuple[str, str, str]], seed: int) -> list[str]:
    """Ids of the rows to show: of every source, step and reason equally many as far as there are, drawn by id and seed."""
    pools: dict[tuple[str, str, str], list[str]] = {}
    for sample_id, end in sorted(ends.items(), key=lambda pair: hash_text(str(seed), pair[0])):
        pools.setdefault(end, []).append(sample_id)
    rounds = [[pool[depth] for pool in pools.values() if depth < len(pool)] for depth in range(MOST_ROWS)]
    return [sample_id for ids in rounds for sample_id in ids][:MOST_CARDS]


def shown_rows(
    facts: DataFacts, chosen: Sequence[str], samples: dict[str, Sample], config: DataConfig
) -> list[ShownRow]:
    """The chosen rows, with all that is known of them."""
    outcomes = {outcome.sample_id: outcome for outcome in _outcomes(facts.folder, chosen)}
    again = [s for s in samples.values() if s.id not in outcomes or facts.ends[s.id][2] in UNREAD]
    walked = retrace(again, config, load_prompts(config.prompts), facts.folder) if again and facts.prompts else {}
    rows = []
    for sample_id in chosen:
        outcome, said = walked.get(sample_id, (None, ""))
        end, detail = facts.ends[sample_id], facts.details.get(sample_id, "")
        outcome, said = outcomes.get(sample_id, outcome), said if end[2] in UNREAD else ""
        rows.append(ShownRow(sample_id, end, detail, samples.get(sample_id), outcome, said))
    return rows


def page_cards(rows: Sequence[ShownRow], config: DataConfig) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """(cards, pictures by the names that cards call them), both within their bytes."""
    try:
        cues = lexicon.load(config.split.preset)
    except UserError:  # the user's own list, which is gone
        cues = None
    cards: list[dict[str, Any]] = []
    text = 0
    for row in rows:
        made = card(row, config, cues)
        text += len(call("", made))
        if text > MOST_TEXT:
            break
        cards.append(made)
    paths = list(dict.fromkeys(path for made in cards for path in made.get("images", ())))
    most = min(MOST_PICTURE, MOST_PICTURES // max(1, len(paths)))
    names = {path: str(number) for number, path in enumerate(paths)}
    for made in cards:
        made["images"] = [names[path] for path in made.get("images", ())]
    return cards, {names[path]: uri for path in paths if (uri := thumbnail_uri(path, most))}


def _outcomes(folder: Path, sample_ids: Iterable[str]) -> Iterator[Outcome]:
    if (folder / FILE).is_file():
        with closing(OutcomeStore(folder / FILE)) as store:
            yield from store.of(sample_ids)
