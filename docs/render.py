"""Render what is never typed: the file list of docs/house.md, the tables of docs/alarms.md, docs/rows.md and docs/data.md, the study of README
and docs/pocket-study.md, the benchmark table of docs/engine.md, and how well the lexicons find hesitation, in docs/traces.md and in their own files.

python docs/render.py [--study runs/study]
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "seethink"
BENCHMARKS = sorted((ROOT / "benchmarks" / "results").glob("grpo_vs_trl*.json"))  # one a processor
ROOMS = (
    "cli.py",
    "help.py",
    "api.py",
    "show",
    "pocket",
    "study",
    "evals",
    "train",
    "data",
    "traces",
    "rewards",
    "doctor.py",
    "ask",
    "core",
)


def house() -> str:
    """docs/house.md: one line per source file, its path and the first sentence of its docstring, from the top floor down."""
    parts = [
        "# The house",
        "Every source file with the first sentence of its docstring, floor by floor from the top; a room imports only from the "
        "floors below it. Rendered by `python docs/render.py`, held true by `tests/test_house.py`.",
    ]
    for room in ROOMS:
        files = [PACKAGE / room] if room.endswith(".py") else sorted((PACKAGE / room).rglob("*.py"))
        files = [path for path in files if path.name not in ("__init__.py", "__main__.py")]
        heading = room if room.endswith(".py") else f"{room}/: {summary(PACKAGE / room / '__init__.py')}"
        rows = [f"| `{path.relative_to(PACKAGE)}` | {summary(path).replace('|', '&#124;')} |" for path in files]
        parts += [f"## {heading}", "\n".join(["| file | what it is |", "|---|---|", *rows])]
    return "\n\n".join(parts) + "\n"


def alarms(text: str) -> str:
    """docs/alarms.md with the tables of the rules that a training run and a study go by."""
    from seethink.core.alarms import alarm_table
    from seethink.study.alarms import STUDY_RULES
    from seethink.train.alarms import RULES

    return replace(replace(text, "training", alarm_table(RULES)), "study", alarm_table(STUDY_RULES))


def rows_page(text: str) -> str:
    """docs/rows.md with the table of the paper's sources."""
    from seethink.data.sources.table import source_table

    return replace(text, "sources", source_table())


def python_page(text: str) -> str:
    """docs/python.md with every public name: how it is called, and what it says of itself."""
    import inspect

    import seethink

    rows = ["| name | what it is |", "|---|---|"]
    for name in sorted(seethink.__all__, key=str.lower):
        value = getattr(seethink, name)
        said = inspect.getdoc(value) if callable(value) else "version, of the git tag it was built from"
        call = ""
        if inspect.isfunction(value):
            call = str(inspect.signature(value)).replace("'", "").replace("|", "&#124;")
        first = " ".join((said or "").split("\n\n")[0].split()).replace("|", "&#124;")
        rows.append(f"| `{name}{call}` | {first} |".replace("&#124;", "\\|"))
    return replace(text, "names", "\n".join(rows))


def data_page(text: str) -> str:
    """docs/data.md with what a row may hold, golds, frames and refusals."""
    sys.path.insert(0, str(ROOT / "docs"))
    from row_tables import row_tables

    for name, content in row_tables().items():
        text = replace(text, name, content)
    return text


def summary(path: Path) -> str:
    """First sentence of a module's docstring, on one line."""
    text = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
    first = re.split(r"(?<=\.)\s", " ".join(text.split()))[0].rstrip(".:")
    return first if len(first) <= 120 else first[:117].rsplit(" ", 1)[0] + " ..."


def measured(study: Path) -> str:
    """Minutes from the start of the first stage to the end of the last, cores and memory, from the run folders."""
    manifests = [json.loads(p.read_text()) for p in study.rglob("manifest.json")]
    done = [json.loads(p.read_text()) for p in study.rglob("done.json")]
    started = min(datetime.fromisoformat(m["started"]) for m in manifests)
    finished = max(datetime.fromisoformat(d["finished"]) for d in done)
    memory = max(d["summary"].get("memory_gb") or 0 for d in done)
    minutes = (finished - started).total_seconds() / 60
    cores = manifests[0]["cores"]
    return f"Measured: {minutes:.1f} minutes for {len(done)} stages on {cores} cores, at most {memory:.1f} GB a process, {cores} processes."


def lexicons() -> tuple[str, dict[Path, str]]:
    """(the tables of docs/traces.md, lexicon file -> its text with what was measured)."""
    from seethink.pocket.lexicons import HESITATES, check_lexicons, check_revisions, teacher_traces

    traces, files = teacher_traces(), {}
    checks = check_lexicons(traces)
    labels = [*HESITATES, *sorted(checks[0].sentences.keys() - {*HESITATES})]
    counts = ", ".join(f"{checks[0].sentences[label]:,} {label}" for label in labels)
    rows = [["lexicon", "precision", "recall", *(f"finds of {label}" for label in labels)]]
    rows.append(["---"] * len(rows[0]))
    for one in checks:
        shares = [f"{100 * one.found[label] / one.sentences[label]:.0f} %" for label in labels]
        rows.append([f"`{one.name}`", in_percent(one.precision), in_percent(one.recall), *shares])
        path = PACKAGE / "traces" / "lexicons" / f"{one.name}.toml"
        text = re.sub(r"(?m)^(?:precision|recall) = .*\n", "", path.read_text(encoding="utf-8"))
        for name, found in (("precision", one.precision), ("recall", one.recall)):
            text += f"{name} = {found.estimate:.3f}\n" if found else ""
        files[path] = text
    made = check_revisions(traces)
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    revisions = (
        f"Of {made.revisions[0]} revisions that the teachers made, {made.revisions[1]} are counted; of {made.pseudo_ahas[0]:,} "
        f"hesitations that changed nothing, {made.pseudo_ahas[1]:,} are counted as pseudo-ahas."
    )
    return f"{len(traces)} traces; sentences: {counts}.\n\n{table}\n\n{revisions}", files


def measures() -> str:
    """The table of what is measured of every arm."""
    from seethink.study.measures import MEASURES

    rows = [
        [
            one.name,
            one.unit,
            ", ".join(f"`{stage}`" for stage in one.needs),
            (one.of.__doc__ or "").splitlines()[0].rstrip("."),
        ]
        for one in MEASURES
    ]
    rows = [f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in rows]
    return "\n".join(["| measure | unit | needs | what it is |", "|---|---|---|---|", *rows])


def traces_page() -> tuple[str, dict[Path, str]]:
    """(docs/traces.md, lexicon files) with what is measured now."""
    table, files = lexicons()
    text = (ROOT / "docs" / "traces.md").read_text(encoding="utf-8")
    return replace(replace(text, "lexicons", table), "measures", measures()), files


def in_percent(interval) -> str:
    """`94.3 % [93.1, 95.4]`."""
    if interval is None:
        return "finds nothing"
    return f"{100 * interval.estimate:.1f} % [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def replace(text: str, name: str, content: str) -> str:
    """Content between `<!-- name -->` and `<!-- /name -->`."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.S)
    if not pattern.search(text):
        raise SystemExit(f"no <!-- {name} --> markers")
    return pattern.sub(lambda m: m[1] + content + "\n" + m[2], text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, help="finished study folder with report.md")
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))  # this checkout's package, whatever is installed
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    (ROOT / "docs" / "house.md").write_text(house(), encoding="utf-8")
    page = ROOT / "docs" / "alarms.md"
    page.write_text(alarms(page.read_text(encoding="utf-8")), encoding="utf-8")
    for name, rendered in (("rows.md", rows_page), ("data.md", data_page), ("python.md", python_page)):
        page = ROOT / "docs" / name
        page.write_text(rendered(page.read_text(encoding="utf-8")), encoding="utf-8")
    if arguments.study:
        report = (arguments.study / "report.md").read_text(encoding="utf-8").split("\n## Matched")[0].strip()
        found = re.sub(r"^# (.*)", r"**\1**", report)
        text = replace(text, "study", found.partition("\n## ")[0].strip())
        page = ROOT / "docs" / "pocket-study.md"
        page.write_text(replace(page.read_text(encoding="utf-8"), "study", found), encoding="utf-8")
        text = replace(text, "measured", measured(arguments.study))
    readme.write_text(text, encoding="utf-8")
    page, files = traces_page()
    for path, content in {ROOT / "docs" / "traces.md": page, **files}.items():
        path.write_text(content, encoding="utf-8")
    if BENCHMARKS:
        engine = ROOT / "docs" / "engine.md"
        engine.write_text(replace(engine.read_text(encoding="utf-8"), "benchmark", benchmark()), encoding="utf-8")
        plot(ROOT / "docs" / "grpo_vs_trl.png")


def plot(path: Path) -> None:
    """How many times less CPU than TRL, case by case, with the spread over steps and the targets; of the record with most cases."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    records = [json.loads(path.read_text(encoding="utf-8")) for path in BENCHMARKS]
    recorded = max(records, key=lambda record: len(record["results"]))
    rows = recorded["results"]
    ratios = [r["cpu_ratio"] for r in rows]
    low = [r["cpu_ratio"] - r["cpu_spread"][0] for r in rows]
    high = [r["cpu_spread"][1] - r["cpu_ratio"] for r in rows]
    figure, axes = pyplot.subplots(figsize=(8, 3.2), layout="constrained")
    bars = axes.bar([r["case"] for r in rows], ratios, yerr=[low, high], color="#3b6ea8", ecolor="#444444", capsize=3)
    axes.bar_label(bars, [f"{r:.1f}x" for r in ratios], label_type="center", color="white")
    targets = [(i, r["target"]) for i, r in enumerate(rows) if r["target"]]
    axes.scatter(*zip(*targets, strict=True), marker="_", s=900, color="#c0392b", label="target", zorder=3)
    axes.axhline(1, color="#888888", linewidth=0.8)
    axes.set_ylabel("CPU seconds, TRL / seethink")
    axes.set_xlabel("image tokens x completions per prompt, and variants of 256x4")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(recorded["machine"]["cpu"], loc="left", fontsize=10)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def benchmark() -> str:
    """The recorded comparisons with TRL as tables, each under the processor that it was measured on."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from grpo_vs_trl import table

    parts = []
    for path in BENCHMARKS:
        recorded = json.loads(path.read_text(encoding="utf-8"))
        machine = ", ".join(f"{name} {value}" for name, value in recorded["machine"].items() if name != "cpu")
        parts.append(
            f"**{recorded['machine']['cpu']}** ({recorded['date']}; {machine}):\n\n{table(recorded['results'])}"
        )
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
