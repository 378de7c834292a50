"""Time of whole `seethink eval` processes that score finished predictions without a judge, beside another scorer's.

    python benchmarks/evals.py [--data ../shared/data] [--runs 5] [--peer mathvision="python evaluate.py ..."] [--json out.json]

DynaMath: 5,010 predictions made from its items, since no raw answers are published: JSON as its prompt asks for, sentences,
tags, wrong ones. MATH-Vision: the 3,040 published responses of one model. Each run is a new process, from start to report;
a peer's command is timed in turn with ours, so that both meet the same machine. CPU seconds are of a process and its children.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from seethink.core.run import processor
from seethink.evals.boards import BOARDS

ROOT = Path(__file__).parents[1]
LIMIT = 5.0  # seconds on two cores that one evaluation may take
Prediction = dict[str, str]


def dynamath(folder: Path) -> Iterator[Prediction]:
    """Four ways to answer by turns; every fifth answer is wrong."""
    number = 0
    for variant in range(1, 11):
        rows = json.loads((folder / f"10trials/trial{variant}/dataset.json").read_text(encoding="utf-8"))
        for name, row in rows.items():
            number += 1
            answer = str(row["answer"]) if number % 5 else "17"
            ways = (
                json.dumps({"solution": "Read it off the figure.", "short answer": answer}),
                f"Here is the result.\n```json\n{json.dumps({'solution': 'x = ' + answer, 'short answer': answer})}\n```",
                f"<think>so it is {answer}</think><answer>{answer}</answer>",
                f"The answer is {answer}.",
            )
            yield {"id": f"{name}/{variant}", "text": ways[number % 4]}


def mathvision(folder: Path) -> Iterator[Prediction]:
    """The first published run."""
    run = sorted((folder / "outputs").glob("*.jsonl"))[0]
    for line in run.read_text(encoding="utf-8").split("\n"):
        if line.strip():
            row = json.loads(line)
            yield {"id": str(row["id"]), "text": str(row.get("response") or row.get("model_answer") or "")}


CASES: dict[str, tuple[str, Callable[[Path], Iterator[Prediction]]]] = {
    "dynamath": ("dynamath", dynamath),
    "mathvision": ("mathvision/test.jsonl", mathvision),
}
"""Task -> (its file or folder below the data, its predictions)."""


def timed(command: list[str]) -> tuple[float, float]:
    """(seconds, CPU seconds) of a whole process. Ends the benchmark where it fails."""
    began, used = time.perf_counter(), _cpu()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)}\n{done.stderr[-2000:]}")
    return time.perf_counter() - began, _cpu() - used


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(task: str, data: Path, runs: int, peer: str) -> dict[str, object]:
    """Figures of one board: ours, and the peer's where there is one."""
    where, make = CASES[task]
    board = data / where
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as temporary:
        predictions = Path(temporary) / "predictions.jsonl"
        rows = list(make(board if board.is_dir() else board.parent))
        predictions.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        for number in range(runs):
            out = Path(temporary) / str(number)
            ours.append(timed([
                sys.executable, "-m", "seethink", "eval", "--task", task, "--data", str(board),
                "--predictions", str(predictions), "--profile", "official", "--out", str(out),
            ]))  # fmt: skip
            if peer:
                theirs.append(timed(shlex.split(peer)))
        summary = json.loads((out / "done.json").read_text(encoding="utf-8"))["summary"]
    found: dict[str, object] = {"items": len(rows), "score": summary["score"], "ours": spread(ours)}
    if peer:
        ratio = [other / mine for (mine, _), (other, _) in zip(ours, theirs, strict=True)]
        found |= {
            "peer": spread(theirs),
            "times_faster": statistics.median(ratio),
            "ratio_range": [min(ratio), max(ratio)],
        }
    return found


def spread(times: list[tuple[float, float]]) -> dict[str, object]:
    """Median and range over runs."""
    return {
        name: {"median": statistics.median(values), "range": [min(values), max(values)]}
        for name, values in zip(("wall_s", "cpu_s"), zip(*times, strict=True), strict=True)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--tasks", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--peer", action="append", default=[], metavar="TASK=COMMAND")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    peers = dict(peer.split("=", 1) for peer in options.peer)
    result: dict[str, object] = {
        "machine": {"cpu": processor(), "cores": os.cpu_count(), "load": os.getloadavg()[0], "python": platform.python_version()},
        "runs": options.runs,
        "limit_s": LIMIT,
    }  # fmt: skip
    for task in options.tasks:
        if task not in BOARDS:
            result[task] = "left out: this board is not here"
        elif not (options.data / CASES[task][0]).exists():
            result[task] = f"left out: no {options.data / CASES[task][0]}"
        else:
            result[task] = measure(task, options.data.resolve(), options.runs, peers.get(task, ""))
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
