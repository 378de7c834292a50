"""The data pipeline at the size of the paper: memory, the resume of a killed run, and the split and export of what it kept.

    python benchmarks/rows.py [--rows 200000] [--kill 0.5] [--folder DIR] [--json out.json]

Rows, pictures and answers are synthetic: a question of 20 to 40 words with a picture of 64 x 64 pixels of its own, two fifths
digits, two fifths choices and a fifth open; a teacher in the same process, in the place of the connection, writes captions of 60
words and traces of 450 to 750, so that what is measured is ours: ledger, steps, rules, tables. `seethink data` is killed with
SIGKILL once this share of the rows is settled, started again and brought to its end; then `seethink split` and `seethink export`
run on what it wrote. Times are wall seconds from the start of the process, memory is the highest resident of the process.
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
from pathlib import Path

from PIL import Image
from rich.table import Table

from seethink.core.nouns import Sample
from seethink.core.run import processor
from seethink.core.store import save_samples, write_json
from seethink.core.terminal import console

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
        from seethink.ask.ledger import Reply

        if Teacher.first:
            Path(Teacher.first).write_text(str(time.time()))
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
    called = float(first.read_text()) - start if first.exists() else None
    seconds = {"seconds": time.time() - start, "cpu": usage.ru_utime + usage.ru_stime}
    return {**seconds, "mb": usage.ru_maxrss / 1024, "first_call": called}


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
    parser.add_argument("--kill", type=float, default=0.5, help="share of the rows settled when it is killed")
    parser.add_argument("--folder", type=Path, default=Path("runs/rows"), help="where it works; must not exist")
    parser.add_argument("--json", type=Path, help="where the figures go")
    options = parser.parse_args()
    folder = options.folder.absolute()
    folder.mkdir(parents=True)
    source, out = make_rows(folder, options.rows), folder / "run"
    models = [x for role in ("captioner", "reasoner", "rewriter", "judge") for x in (f"--{role}.model", role)]
    run = ["data", "--source", str(source), "--out", str(out), "--base_url", "http://127.0.0.1:9/v1", *models]
    results = {"data, killed": measure(run, folder, lambda: settled(out) >= options.kill * options.rows)}
    at_kill = settled(out)
    results["data, resumed"] = measure(run, folder)
    results["data, done before"] = measure(run, folder)
    with open(out / "traces.jsonl", "rb") as f:
        traces = sum(1 for _ in f)
    results["split"] = measure(["split", "--traces", str(out / "traces.jsonl"), "--out", str(folder / "split")], folder)
    for name in FORMATS:
        data = (
            ["--data", str(out / "traces.jsonl")]
            if name in ("trl", "verl", "easyr1", "swift")
            else ["--data", str(out / "sft.jsonl")]
        )
        results[f"export {name}"] = measure(
            ["export", *data, "--format", name, "--out", str(folder / f"export.{name}")], folder
        )
    table = Table(title=f"{options.rows:,} synthetic rows, killed at {at_kill:,} settled, {traces:,} kept", box=None)
    for heading in ("", "seconds", "CPU seconds", "MB at most", "first new call"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, r in results.items():
        call = "" if r["first_call"] is None else f"{r['first_call']:.1f}"
        table.add_row(name, f"{r['seconds']:.1f}", f"{r['cpu']:.1f}", f"{r['mb']:,.0f}", call)
    console(width=120).print(table)
    if options.json:
        sizes = {path.name: path.stat().st_size for path in sorted(out.iterdir()) if path.is_file()}
        about = {
            "rows": options.rows,
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
