"""`seethink view`: static pages to look at samples and traces, with filters and a search; they work from the disk, no server.

    seethink view runs/eval [runs/eval2]                an evaluation, or two side by side
    seethink view runs/study --arms grpo,base           two arms of a study
    seethink view runs/grpo                             groups of rollouts
    seethink view data/sft.jsonl                        a data set

Items are written in chunks of JSON that the page loads as they are needed, so thousands of them stay light; a search looks
through the index alone. Filters, search and position stand in the address, after `#`. What a model wrote is data for the page,
set as text and never as HTML.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.core.guard import refuse_foreign
from seethink.core.store import write_text
from seethink.show.config import ViewConfig
from seethink.show.items import FLAGS, Attempt, Item, load_items
from seethink.show.pages import asset, copy_picture, environment
from seethink.study.folder import load_study
from seethink.traces.steps import load_checker

CHUNK = 50  # items per data file


def run(config: ViewConfig, dry_run: bool = False) -> dict[str, Any] | None:
    """The verb; where the pages lie. Raises UserError where there is nothing to look at, or the samples cannot be found."""
    if not config.input.exists():
        raise UserError("no such file or folder", where=config.input, remedy="Give a run folder or a JSONL file")
    study = load_study(config.input) if (config.input / "study.json").is_file() else None
    checker = load_checker(config.checker) if config.checker else None
    unchecked = study.unchecked if study and not checker else ""
    arms = [name.strip() for name in config.arms.split(",") if name.strip()]
    if study and not arms:
        arms = list(next(iter(study.comparisons), list(study.arms)[:2]))
    items = load_items(config.input, config.other, config.samples, arms, config.seed, checker)
    items = items[: config.limit] if config.limit else items
    out = config.out or (
        config.input / "view" if config.input.is_dir() else config.input.with_name(f"{config.input.stem}-view")
    )
    if dry_run:
        print(f"{len(items)} items -> {out / 'index.html'}")
        return
    refuse_foreign(out, "index.js")
    title = " and ".join(str(path) for path in (config.input, config.other) if path)
    write_pages(out, title, items, checker is not None, unchecked)
    print(f"view: {len(items)} items, {out / 'index.html'}")
    if unchecked:
        print(f"truth of statements is not shown: {unchecked}")
    return {"out": str(out / "index.html"), "items": len(items)}


def write_pages(
    out: Path,
    title: str,
    items: Sequence[Item],
    checked: bool,
    unchecked: str = "",
    name: str = "view",
    more: dict[str, Any] | None = None,
) -> None:
    """index.html, index.js (what filters and search need), items-<n>.js (the items) and images/.

    Another page over items is a template that extends the viewer's: `name` is its name, `more` what it prints.
    """
    chunks = [items[at : at + CHUNK] for at in range(0, len(items), CHUNK)]
    for stale in out.glob("items-*.js"):
        stale.unlink()
    for number, chunk in enumerate(chunks):
        rows = [item_row(item, out / "images") for item in chunk]
        write_text(out / f"items-{number}.js", call("seethink.chunk", number, rows))
    index = [
        {"id": i.sample.id, "kind": i.sample.kind, "part": i.part, "flags": i.flags, "text": i.searched} for i in items
    ]
    write_text(out / "index.js", call("seethink.index", CHUNK, index))
    counts = Counter(flag for row in index for flag in row["flags"])
    tags = sorted({tag for item in items for tag in item.tags})
    page = {
        "title": title,
        "count": len(items),
        "kinds": list(dict.fromkeys(i.sample.kind for i in items)),
        "board_parts": list(dict.fromkeys(i.part for i in items)),
        "flags": {flag: counts[flag] for flag in dict.fromkeys([*tags, *FLAGS]) if counts[flag]},
        "checked": checked,
        "unchecked": unchecked,
        "base_css": asset("base.css"),
        "view_css": asset("view.css"),
        "script": asset("view.js"),
        **(more or {}),
    }
    file = out / ("index.html" if name == "view" else f"{name}.html")
    write_text(file, environment().get_template(f"{name}.html.j2").render(page))


def item_row(item: Item, images: Path) -> dict[str, Any]:
    """One item as the page wants it; pictures are copied beside the page."""
    sample = item.sample
    names = [copy_picture(path, images) for path in sample.images]
    return {
        "id": sample.id,
        "kind": sample.kind,
        "part": item.part,
        "source": sample.source,
        "question": sample.question,
        "gold": " or ".join(sample.golds),
        "options": [f"{letter} {choice}" for letter, choice in item.options.items()],
        "images": [name and f"images/{name}" for name in names],
        "flags": item.flags,
        "attempts": [attempt_row(attempt) for attempt in item.attempts],
    }


def attempt_row(attempt: Attempt) -> dict[str, Any]:
    """Pieces as [text, classes], so that the page only has to set text."""
    return {
        "label": attempt.label,
        "ok": attempt.ok,
        "state": attempt.state,
        "graded": attempt.graded,
        "answer": attempt.answer,
        "details": attempt.details,
        "marks": [name for name, on in (("lucky", attempt.lucky), ("cut", attempt.truncated)) if on],
        "pieces": [
            [p.text, " ".join(name for name, on in (("tag", p.tag), ("mark", p.marker), (p.truth, p.truth)) if on)]
            for p in attempt.pieces
        ],
    }


def call(function: str, *arguments: Any) -> str:
    """A line of script that calls a function with data; `<` is written as an escape, so no text can end a script."""
    text = ", ".join(json.dumps(a, ensure_ascii=True).replace("<", "\\u003c") for a in arguments)
    return f"{function}({text});\n"
