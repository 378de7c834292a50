"""The card of a data set, card.md: what is in it and from where, under which licences, how it was made, who left where.

    read_sets(runs/data) -> SetFacts, card(facts) -> Markdown with the YAML head that the Hugging Face Hub reads

Everything is read from the run folder (of data, split or curate) or from a file of rows; what is not known is not said, and an
unknown licence is called `unknown`. `seethink data push` sends it as README.md.
"""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seethink import __version__
from seethink.core.errors import UserError
from seethink.core.run import MANIFEST, read_log
from seethink.core.store import hash_path, hash_text, read_lines, read_record, write_text
from seethink.core.terminal import one_line
from seethink.data.config import ROLES, SELECTED
from seethink.data.sources import SOURCES
from seethink.data.sources.source import Source
from seethink.data.steps import load_prompts

SETS = ("sft.jsonl", "rl.jsonl", SELECTED)
VERBS = {"data": "source", "split": "traces", "curate": "data"}
"""Verbs whose folders hold rows, and the setting that names what they were made of."""
UNKNOWN = "unknown"
HUB_LICENCES = (
    "apache-2.0", "mit", "cc0-1.0", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-4.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "bsd-3-clause", "odc-by", "odbl",
)  # fmt: skip
"""Names of licences that the Hub knows and rows may have."""
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10**7, "1M<n<10M"))
COLUMNS = {
    "hf": "`question` (`<image>` marks a place; without marks images come first), `images`, `solution` with `alternatives` that are "
    "as right, `kind` (which reward reads it), `choices`, `context`, `completion` (of traces), `meta` (JSON)",
    "verl": "`prompt`, `images`, `reward_model.ground_truth`, `data_source`, `extra_info`",
    "easyr1": "`problem`, `images`, `answer` (JSON: the gold and its kind)",
}


@dataclass
class SourceFacts:
    """What the sets hold of one source."""

    name: str
    declared: Source | None
    """One of the paper's nine, by name."""
    rows: Counter[str] = field(default_factory=Counter)
    """Set -> rows."""
    kinds: Counter[str] = field(default_factory=Counter)
    licences: dict[str, None] = field(default_factory=dict)
    """As its rows say, else as its declaration says, else unknown; in the order met."""


@dataclass(frozen=True)
class SetFacts:
    """What is known of a data set."""

    name: str
    sets: dict[str, Path]
    """Name -> file of rows, where there are any."""
    sources: list[SourceFacts]
    runs: list[tuple[Path, dict[str, Any]]]
    """Folder and manifest of every run behind it, the last first: curate, split, data."""

    @property
    def rows(self) -> int:
        return sum(sum(source.rows.values()) for source in self.sources)

    @property
    def closed(self) -> list[SourceFacts]:
        """Sources that nobody may pass on as things stand."""
        return [source for source in self.sources if source.declared and source.declared.closed]

    @property
    def licences(self) -> list[str]:
        return list(dict.fromkeys(licence for source in self.sources for licence in source.licences))


def read_sets(path: Path) -> SetFacts:
    """Of a run folder, or of a file of rows. Raises UserError for a folder without them, and for a row that is none."""
    runs = runs_behind(path)
    files = [path] if path.is_file() else [file for name in SETS if (file := path / name).is_file()]
    if not files or (path.is_dir() and not runs):
        raise UserError("no data here", where=path, remedy="Give the folder of data, split or curate, or a JSONL")
    sources: dict[str, SourceFacts] = {}
    sets = {}
    for file in files:
        for _, row in read_lines(file):
            if isinstance(row, UserError):
                raise row
            name = str(row.get("source") or "")
            source = sources.setdefault(name, SourceFacts(name, SOURCES.get(name)))
            source.rows[file.stem] += 1
            source.kinds[str(row.get("kind"))] += 1
            declared = source.declared.licence if source.declared else UNKNOWN
            source.licences[str(row.get("licence") or declared)] = None
            sets[file.stem] = file
    return SetFacts(path.absolute().stem, sets, list(sources.values()), runs)


def runs_behind(path: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The run that a folder holds, or that a file lies in, and those whose rows it took, while they are unchanged."""
    folder, runs = path if path.is_dir() else path.parent, []
    while (manifest := folder / "manifest.json").is_file() and len(runs) < len(VERBS):
        found = read_record(manifest)
        if not isinstance(found, dict) or not found.keys() >= MANIFEST or found["verb"] not in VERBS:
            break
        runs.append((folder, found))
        taken = VERBS[found["verb"]]
        origin = Path(read_record(folder / "config.json").get(taken, ""))
        if not origin.is_file() or hash_path(origin) != found["inputs"].get(taken):
            break
        folder = origin.parent
    return runs


def licence_id(text: str) -> str:
    """What the Hub calls a licence: `CC BY 4.0 (pictures apart)` is cc-by-4.0; '' for one that it has no name for."""
    if text == "none stated":
        return UNKNOWN
    name = re.sub(r"[^a-z0-9.]+", "-", text.partition(" (")[0].lower()).strip("-")
    return name if name in (*HUB_LICENCES, UNKNOWN) else ""


def write_card(folder: Path) -> None:
    """card.md of a run folder, where any row is left."""
    if (facts := read_sets(folder)).sets:
        write_text(folder / "card.md", card(facts))


def card(facts: SetFacts, repo: str = "", format: str = "hf") -> str:
    """The card as Markdown; of a folder, or of what is in `repo` on the Hub."""
    made = f"Made by `seethink {facts.runs[0][1]['verb']}`" if facts.runs else f"Written by seethink {__version__}"
    total = {name: sum(source.rows[name] for source in facts.sources) for name in facts.sets}
    lines = [
        *head(facts, repo), f"# {_cell(repo or facts.name)}", "",
        f"{made}: {', '.join(f'{name} {rows:,} rows' for name, rows in total.items())}.", "",
        *(load_lines(facts, repo, format) if repo else ["`seethink data push` sends it to the Hugging Face Hub."]), "",
        "## Sources and licences", "", *source_lines(facts), "",
        *(["## Who left where", "", *lines] if (lines := funnel_lines(facts)) else []),
        *(["## How it was made", "", *lines] if (lines := made_lines(facts)) else []),
    ]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def load_lines(facts: SetFacts, repo: str, format: str) -> list[str]:
    """How what is on the Hub is read."""
    return [
        "```python", "from datasets import load_dataset", "",
        f'rows = load_dataset("{repo}", "{next(iter(facts.sets))}", split="train")', "```", "",
        f"Pictures are inside the tables. Columns: {COLUMNS[format]}. `seethink import --format {format}` makes rows and picture "
        "files of them.",
    ]  # fmt: skip


def head(facts: SetFacts, repo: str) -> list[str]:
    """The YAML that the Hub and `datasets` read. JSON texts and lists are YAML."""
    ids = sorted({licence_id(licence) or licence for licence in facts.licences})
    one = licence_id(facts.licences[0]) if len(ids) == 1 else ""
    size = next((name for most, name in SIZES if facts.rows < most), "10M<n<100M")
    configs = [
        {"config_name": name, "data_files": [{"split": "train", "path": f"{name}/*.parquet"}]} for name in facts.sets
    ]
    return [
        "---",
        f"license: {one or 'other'}",
        *([] if one else [f"license_name: {_quoted(', '.join(ids))}"]),
        f"pretty_name: {_quoted(repo or facts.name)}",
        "task_categories: [visual-question-answering]",
        "tags: [seethink, reasoning, multimodal]",
        f"size_categories: [{json.dumps(size)}]",
        "configs:",
        *(f"- {json.dumps(config)}" for config in configs),
        "---",
    ]


def source_lines(facts: SetFacts) -> list[str]:
    """The table of sources, with the paper's counts where it has them, and what is to mind."""
    names = list(facts.sets)
    paper = [name for name in ("sft", "rl") if any(source.declared for source in facts.sources)]
    columns = ["source", *names, *(f"paper's {name}" for name in paper), "kinds", "licence", "published at"]
    rows = [columns, ["---", *["---:"] * (len(names) + len(paper)), "---", "---", "---"]]
    for source in facts.sources:
        of, counts = source.declared, source.declared.counts._asdict() if source.declared else {}
        told = [f"{n:,}" if (n := counts.get(name)) is not None else "-" for name in paper]
        kinds = ", ".join(f"{kind} {n:,}" for kind, n in source.kinds.most_common())
        licence, where = "; ".join(source.licences), of.published if of else UNKNOWN
        rows.append([source.name or UNKNOWN, *(f"{source.rows[n]:,}" for n in names), *told, kinds, licence, where])
    notes = [
        f"{s.name}: nobody may pass it on as things stand ({s.declared.closed})" for s in facts.closed if s.declared
    ]
    notes += ["Licences are those of the questions; pictures may have others"]
    notes += ["The paper is arXiv 2504.11468"] if paper else []
    return [*_table(rows), "", *(f"* {_cell(note)}." for note in notes)]


def funnel_lines(facts: SetFacts) -> list[str]:
    """Per run, source and step: how many came, left and why, and went on."""
    lines = []
    for folder, manifest in facts.runs:
        funnel = read_record(folder / "funnel.json") if (folder / "funnel.json").is_file() else []
        rows = [["source", "step", "in", "dropped", "out"], ["---", "---", "---:", "---", "---:"]]
        for row in funnel:
            dropped = ", ".join(f"{reason} {n:,}" for reason, n in row["dropped"].items())
            rows.append([row["source"], row["step"], f"{row['in']:,}", dropped, f"{row['out']:,}"])
        lines += [f"`seethink {manifest['verb']}`:", "", *_table(rows), ""] if funnel else []
    return lines


def made_lines(facts: SetFacts) -> list[str]:
    """Models as they were asked for and as the server named them, prompts by their hash, and what made the sets."""
    lines = []
    for folder, manifest in facts.runs:
        config, inputs, git = manifest["config"], manifest["inputs"], (manifest.get("git") or "")[:10]
        given = read_record(folder / "config.json")
        code = f"{manifest.get('seethink', UNKNOWN)}{f' ({git})' if git else ''}, {manifest.get('started', UNKNOWN)}"
        lines += [f"`seethink {manifest['verb']}` of {code}:", ""]
        if manifest["verb"] == "data":
            prompts = prompts_in_words(given.get("prompts"), inputs)
            lines += [*_table(model_rows(folder, config)), "", f"Prompts: {prompts}.", ""]
        rule = {"data": "split", "split": None}.get(manifest["verb"], "")
        if rule != "":
            preset = Path((given[rule] if rule else given)["preset"]).stem
            lexicon = inputs.get("split.preset") or inputs.get("preset") or UNKNOWN
            settings = _settings(config.get(rule, {}) if rule else config)
            lines += [f"Split by cues {_cell(preset)} ({lexicon}), {settings}.", ""]
        if manifest["verb"] == "curate":
            lines += [f"Chosen by {_settings(config, 'reward')}.", ""]
    return lines


def model_rows(folder: Path, config: dict[str, Any]) -> list[list[str]]:
    """A row per step: the model asked for, what the server called it, and the sampling parameters."""
    served = {row["step"]: row for row in read_log(folder / "spend.jsonl")}
    rows = [
        ["step", "model asked for", "as the server named it", "calls", "parameters"],
        ["---", "---", "---", "---:", "---"],
    ]
    for step, role in ROLES.items():
        spent = served.get(step, {})
        names = ", ".join(str(name) for name in spent.get("served", [])) or "-"
        params = ", ".join(f"{key} {value}" for key, value in config[role]["params"].items())
        rows.append([step, config[role]["model"], names, f"{spent.get('calls') or 0:,}", params])
    return rows


def prompts_in_words(folder: str | None, inputs: dict[str, Any]) -> str:
    """Each prompt with its hash where they are still those of the run, else the hash of all."""
    try:
        prompts = load_prompts(Path(folder) if folder else None)
    except UserError:  # the folder has gone
        prompts = {}
    if hash_text(*(prompt.template for prompt in prompts.values())) == inputs.get("prompts"):
        return ", ".join(f"{name} {hash_text(prompt.template)}" for name, prompt in prompts.items())
    return f"all together {inputs.get('prompts', UNKNOWN)}"


def _settings(values: dict[str, Any], *left_out: str) -> str:
    told = {
        key: value for key, value in values.items() if key not in left_out and value not in (None, "", [], {}, False)
    }
    return ", ".join(f"{key} {_cell(json.dumps(value, ensure_ascii=False))}" for key, value in told.items())


def _quoted(text: str) -> str:
    """Text of others in the head: JSON, which is YAML, without what begins a tag in HTML."""
    return json.dumps(text).replace("<", "\\u003c")


def _table(rows: Iterable[list[str]]) -> list[str]:
    return [f"| {' | '.join(map(_cell, row))} |" for row in rows]


def _cell(text: str) -> str:
    """Text of others as text: no markup, no column, no line of its own."""
    return re.sub(r"([|`\[\]*_\\])", r"\\\1", html.escape(one_line(str(text)), quote=False))
