"""The data pipeline at the size of the paper: memory, the resume of a killed run, and the split and export of what it kept.

    python benchmarks/rows.py [--rows 200000] [--settled 0.98] [--folder DIR] [--json out.json]

Rows, pictures and answers are synthetic: a question of 20 to 40 words with a PNG of 64 x 64 pixels of its own, two fifths digits,
two fifths choices and a fifth open; traces of 450 to 750 words, captions of 60. A teacher in the same process stands in the
place of the connection, so that what is measured is ours: rows, pictures, ledger, steps, rules, tables. For the share `settled` of
the rows the outcomes are written down directly, as an earlier process would have left them (their calls are not in the ledger);
with 0 the run asks for everything. Then `seethink data` is killed with SIGKILL when half of the rest is settled, started again and
brought to its end, and `seethink split` and `seethink export` run on what it wrote. Times are wall seconds from the start of a
process, memory is the highest resident of the process.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from PIL import Image
from rich.table import Table

from seethink.ask.ledger import Reply
from seethink.core.config import resolve
from seethink.core.nouns import Drop, Sample, Verdict
from seethink.core.run import processor
from seethink.core.store import save_samples, write_json
from seethink.core.terminal import console
from seethink.data.checked import check_rows
from seethink.data.config import DataConfig
from seethink.data.export import SUFFIXES
from seethink.data.outcomes import FILE, Outcome, OutcomeStore, outcome_keys
from seethink.data.steps import load_prompts, read_trace

ROOT = Path(__file__).parents[1]
SOURCES = {"clevr_math": "digit", "arxivqa": "choice", "docvqa": "open", "math_puma": "choice", "vizwiz": "digit"}
WORDS = [
    "the",
    "a",
    "of",
    "in",
    "on",
    "with",
    "and",
    "or",
    "so",
    "it",
    "is",
    "this",
    "that",
    "image",
    "shows",
    "object",
    "red",
    "blue",
    "green",
    "cube",
    "sphere",
    "table",
    "chart",
    "axis",
    "value",
    "line",
    "left",
    "right",
    "above",
    "below",
    "between",
    "larger",
    "smaller",
    "number",
    "count",
    "three",
    "seven",
    "total",
    "sum",
    "because",
    "therefore",
    "first",
    "second",
    "next",
    "option",
    "answer",
    "question",
    "text",
    "label",
    "region",
    "corner",
    "small",
    "metal",
    "rubber",
    "cylinder",
]
FORMATS = ("trl", "messages", "verl", "easyr1", "swift", "sharegpt", "paper")


def prose(chance: random.Random, words: int) -> str:
    """Words in sentences of twelve."""
    drawn = chance.choices(WORDS, k=words)
    return ". ".join(" ".join(drawn[i : i + 12]).capitalize() for i in range(0, words, 12)) + "."


def make_rows(folder: Path, count: int) -> Path:
    """samples.jsonl with a picture each."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    samples, chance = [], random.Random(0)
    for n in range(count):
        source = list(SOURCES)[n % len(SOURCES)]
        kind = SOURCES[source]
        image = folder / "images" / f"{n // 1000:03d}" / f"{n}.png"
        image.parent.mkdir(exist_ok=True)
        picture = Image.new("RGB", (64, 64), (n % 256, n // 256 % 256, n // 65536))
        picture.paste((chance.randrange(256), 90, 90), (8, 8, 8 + n % 40, 40))
        picture.save(image, compress_level=1)
        gold = {"choice": "B", "open": f"the number {n}"}.get(kind, str(n % 10))
        choices = tuple(prose(chance, 3) for _ in range(3)) if kind == "choice" else ()
        question = f"{prose(chance, chance.randint(20, 40))} What is it? (item {n})"
        samples.append(Sample(f"item-{n}", source, (str(image),), question, gold, kind, choices, licence="synthetic"))
    save_samples(folder / "samples.jsonl", samples)
    return folder / "samples.jsonl"


class Teacher:
    """Stands where the connection does: captioner, reasoner, rewriter and judge by model name. Notes its first call."""

    first = ""
    """File that gets the time of the first call of this process."""

    def __init__(self, *_: object):
        pass

    async def close(self) -> None:
        pass

    async def send(self, model: str, messages: list, *_: object, **__: object):
        if Teacher.first:
            Path(Teacher.first).write_text(f"{time.time()} {time.process_time()}")
            Teacher.first = ""
        content = messages[-1]["content"]
        text = self.answer(model, content if isinstance(content, str) else content[-1]["text"], content)
        return Reply(text, "stop", 500, len(text) // 4, model, False, 0.0)

    def answer(self, model: str, text: str, content: object) -> str:
        if model == "captioner":
            return prose(random.Random(hash(str(content)[-200:])), 60)
        if model == "judge":
            return "Yes"
        if model == "rewriter":
            return text.split("<text>\n")[1].split("\n</text>")[0].replace("the caption says", "the image shows")
        n = int(re.search(r"item (\d+)", text)[1])
        chance = random.Random(n)
        wrong = n % 24 == 7
        kind = list(SOURCES.values())[n % len(SOURCES)]
        answer = {"choice": "A" if wrong else "B", "open": f"the number {n}"}.get(kind, str((n + wrong) % 10))
        think = f"For item {n} the caption says so. {prose(chance, chance.randint(450, 750))}"
        think += " Wait, let me double-check that." if n % 3 == 0 else ""
        tags = ("<think>\n", "\n</think>\n\n") if n % 50 != 11 else ("", "")
        return f"{tags[0]}{think}{tags[1]}{prose(chance, 20)}\nAnswer: {answer}"


def settle(arguments: list[str], first: int, last: int) -> None:
    """Outcomes of these rows in the folder of a run, as an earlier process would have left them; every 50th is a drop."""
    config, teacher, prompts = resolve(DataConfig, arguments), Teacher(), load_prompts(None)
    drafts = [read_trace(teacher.answer("reasoner", f"(item {n})", "")) for n in range(300) if n % 50 != 11]
    caption = prose(random.Random(0), 60)
    with closing(check_rows(config)) as checked, OutcomeStore(config.out / FILE) as store:
        keys = outcome_keys(((row.source, row.hash) for row in checked.rows), config, prompts)
        for place in range(first, last):
            row, draft = checked.rows[place], drafts[place % len(drafts)]
            draft = replace(draft, think=f"Row {place}: {draft.think}", model="reasoner", tokens=900)
            after = replace(draft, think=draft.think.replace("the caption says", "the image shows"))
            end = Outcome(row.id, row.source, "split", caption, draft, after, Verdict(True, "rule", "as the gold"))
            if place % 50 == 11:
                drop = Drop(row.id, row.source, "distill", "format", "no single <think>..</think>")
                end = Outcome(row.id, row.source, "distill", caption, drop=drop)
            store.put(keys[place], end)


def child(first: str, arguments: list[str]) -> int:
    """`seethink` with the teacher in the place of the connection."""
    import seethink.ask.wire
    from seethink.cli import main

    seethink.ask.wire.Wire, Teacher.first = Teacher, first
    return main(arguments)


def measure(arguments: list[str], folder: Path, stop=None) -> dict:
    """One process: seconds, MB at most, seconds to its first call. `stop` says when to kill it."""
    first = folder / "first-call"
    first.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--child", str(first), *arguments]
    with open(folder / "log.txt", "a") as log:
        start = time.time()
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(ROOT)})
        pid, status, usage = 0, 0, None
        while not pid:
            if stop and stop():
                os.kill(process.pid, signal.SIGKILL)
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            time.sleep(0.1)
    code = os.waitstatus_to_exitcode(status)
    assert code == (-signal.SIGKILL if stop else 0), f"exit code {code}, see {folder / 'log.txt'}"
    wall, used = map(float, first.read_text().split()) if first.exists() else (None, None)
    called = {"first_call": wall and wall - start, "first_call_cpu": used}
    seconds = {"seconds": time.time() - start, "cpu": usage.ru_utime + usage.ru_stime}
    found = {**seconds, "mb": usage.ru_maxrss / 1024, **called}
    print(f"{' '.join(arguments[:2])}: {found}", flush=True)
    return found


def settled(out: Path) -> int:
    """Outcomes on disk."""
    try:
        with sqlite3.connect(f"file:{out / 'outcomes.sqlite'}?mode=ro", uri=True, timeout=10) as db:
            return db.execute("SELECT count(*) FROM outcome").fetchone()[0]
    except sqlite3.Error:
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--settled", type=float, default=0.98, help="share of the rows that an earlier process settled")
    parser.add_argument("--folder", type=Path, default=Path("runs/rows"), help="where it works; must not exist")
    parser.add_argument("--formats", nargs="*", default=FORMATS, help="of the exports")
    parser.add_argument("--json", type=Path, help="where the figures go")
    options = parser.parse_args()
    folder = options.folder.absolute()
    folder.mkdir(parents=True)
    source, out = make_rows(folder, options.rows), folder / "run"
    models = [x for role in ("captioner", "reasoner", "rewriter", "judge") for x in (f"--{role}.model", role)]
    run = ["data", "--source", str(source), "--out", str(out), "--base_url", "http://127.0.0.1:9/v1", *models]
    results = {"data, first start": measure(run, folder, lambda: settled(out) > 0)}
    if options.settled:
        settle(run[1:], settled(out), int(options.settled * options.rows))
    half = (1 + options.settled) / 2 * options.rows
    results["data, killed"] = measure(run, folder, lambda: settled(out) >= half)
    at_kill = settled(out)
    results["data, resumed"] = measure(run, folder)
    results["data, done before"] = measure(run, folder)
    with open(out / "traces.jsonl", "rb") as f:
        traces = sum(1 for _ in f)
    results["split"] = measure(["split", "--traces", str(out / "traces.jsonl"), "--out", str(folder / "split")], folder)
    for name in options.formats:
        data = (
            ["--data", str(out / "traces.jsonl")]
            if name in ("trl", "verl", "easyr1", "swift")
            else ["--data", str(out / "sft.jsonl")]
        )
        file = folder / f"{name}{SUFFIXES[name][0]}"
        results[f"export {name}"] = measure(["export", *data, "--format", name, "--out", str(file)], folder)
    table = Table(title=f"{options.rows:,} synthetic rows, killed at {at_kill:,} settled, {traces:,} kept", box=None)
    for heading in ("", "seconds", "CPU seconds", "MB at most", "first new call", "CPU until then"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, r in results.items():
        calls = [f"{r[name]:.1f}" if r[name] else "" for name in ("first_call", "first_call_cpu")]
        table.add_row(name, f"{r['seconds']:.1f}", f"{r['cpu']:.1f}", f"{r['mb']:,.0f}", *calls)
    console(width=120).print(table)
    if options.json:
        sizes = {path.name: path.stat().st_size for path in sorted(out.iterdir()) if path.is_file()}
        about = {
            "rows": options.rows,
            "load": os.getloadavg(),
            "settled_at_kill": at_kill,
            "kept": traces,
            "processor": processor(),
            "bytes": sizes,
        }
        write_json(options.json, {**about, "results": results})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        sys.exit(child(sys.argv[2], sys.argv[3:]))
    main()
