"""`kill -9` at random moments of a GRPO run and of an SFT run, each started again until it is done.

    python benchmarks/kills.py [--verb grpo --verb sft] [--kills 20] [--seed 7] [--json out.json]

The base of the pocket world, fp32, one thread, on the CPU. Moments are uniform over what a run has still to do, from its start
to its end, in the pace of an undisturbed run, and follow its log, so that a busy machine does not move them. After four kills a
run is brought to its end and the next begins. Equal to the undisturbed run means: every weight bit for bit, every metric but
times and memory, every rollout, and no file more or less.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file

from seethink.core.nouns import Example
from seethink.core.run import read_log
from seethink.core.store import load_samples, read_json, save_examples, write_json
from seethink.core.tables import read_table
from seethink.core.tags import compose

ROOT = Path(__file__).parents[1]
BASE = ROOT / "seethink" / "pocket" / "base"
TIMEOUT = 600  # seconds for one whole run
POLL = 0.01  # seconds between looks at a log
KILLS_PER_RUN = 4


def build_world(out: Path) -> Path:
    """Samples to imitate and to explore, so few that runs see them more than once."""
    from seethink.pocket.build import build

    build(out, seed=7, sft=40, rl=24, board=0, ood=0)
    samples = load_samples(out / "sft_pool.jsonl")
    save_examples(out / "sft.jsonl", [Example(s, compose("let me look .", s.gold)) for s in samples])
    return out


def settings(verb: str, world: Path, out: Path, scale: int = 1) -> dict:
    """A run of 10 optimiser steps (sft) or 6 rounds (grpo), times `scale`, with a checkpoint every second one."""
    shared = {"out": str(out), "model": {"path": str(BASE), "dtype": "float32"}, "save_every": 2}
    if verb == "sft":
        data = {"data": str(world / "sft.jsonl"), "epochs": 2 * scale, "batch_size": 8, "eval_share": 0.1}
        return {**shared, **data, "optim": {"lr": 5e-4}}
    rounds = {"rounds": 6 * scale, "prompts": 6, "update_prompts": 3, "group": 4, "max_tokens": 24, "temperature": 1.0}
    data = {"data": str(world / "rl_pool.jsonl"), "reward": {"open": {"scorer": "lexical"}}}
    return {**shared, **data, **rounds, "optim": {"lr": 1e-4}}


def start(verb: str, config: dict) -> subprocess.Popen:
    """The run as a user would start it, on one thread."""
    file = Path(config["out"]).with_suffix(".json")
    write_json(file, config)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "seethink", verb, f"@{file}"]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(verb: str, config: dict) -> None:
    """Bring the run to its end."""
    ended(start(verb, config))


def ended(child: subprocess.Popen) -> None:
    """Wait for the end of a run. Raises RuntimeError with what it said if it failed."""
    output = child.communicate(timeout=TIMEOUT)[0].decode()
    if child.returncode:
        raise RuntimeError(f"exit code {child.returncode}:\n{output}")


@dataclass(frozen=True)
class Pace:
    """Wall seconds of an undisturbed run."""

    start: float
    """To its first logged step."""
    step: float
    """Of every step, the end of the run shared among them."""
    steps: int


def measure(verb: str, config: dict) -> Pace:
    """The pace of a run, which is brought to its end."""
    began, log = time.monotonic(), Path(config["out"]) / "metrics.jsonl"
    child = start(verb, config)
    while child.poll() is None and not log.exists():
        time.sleep(POLL)
    first = time.monotonic()
    ended(child)
    steps = len(read_log(log))
    return Pace(first - began, (time.monotonic() - first) / steps, steps)


def kill(verb: str, config: dict, pace: Pace, rng: random.Random) -> str | None:
    """Start the run and kill it at a random moment: the phase that it was in, or None when it had ended before."""
    out = Path(config["out"])
    log, done = out / "metrics.jsonl", saved(out)
    moment = rng.uniform(0, pace.start + pace.step * (pace.steps - done))
    began = time.time()
    child = start(verb, config)
    if moment < pace.start:
        time.sleep(moment)
    else:
        steps, rest = divmod((moment - pace.start) / pace.step, 1)
        while child.poll() is None and not (touched(log, began) and len(read_log(log)) >= done + steps):
            time.sleep(POLL)
        time.sleep(rest * pace.step)
    if child.poll() is not None:
        ended(child)
        return None
    child.send_signal(signal.SIGKILL)
    child.communicate()
    return phase(out, began)


def saved(out: Path) -> int:
    """Steps in the latest checkpoint."""
    return max((int(p.stem.rsplit("-", 1)[1]) for p in out.glob("checkpoint/checkpoint-*.pt")), default=0)


def touched(file: Path, since: float) -> bool:
    """True when the file was written after this time: a resumed run writes its log again before it goes on."""
    return file.exists() and file.stat().st_mtime > since


def phase(out: Path, began: float) -> str:
    """What a process that began at this time was doing when it was killed, as its folder tells."""
    if not (out / "manifest.json").exists():
        return "start"
    if (out / "done.json").exists():
        return "end"
    if (out / "model.tmp").exists() or (out / "model").exists():
        return "saving the model"
    if (out / "checkpoint" / ".saving.tmp").exists():
        return "saving a checkpoint"
    if not touched(out / "metrics.jsonl", began):
        return "loading"
    return "steps not yet saved" if len(read_log(out / "metrics.jsonl")) > saved(out) else "step after a checkpoint"


def differences(killed: Path, whole: Path) -> list[str]:
    """What differs between two finished runs that should not."""
    found = []
    ours, theirs = (load_file(folder / "model" / "model.safetensors") for folder in (killed, whole))
    if any(not ours[name].equal(theirs[name]) for name in theirs) or ours.keys() != theirs.keys():
        found.append("weights")
    if logged(killed) != logged(whole):
        found.append("metrics")
    if untimed(read_json(killed / "done.json")["summary"]) != untimed(read_json(whole / "done.json")["summary"]):
        found.append("summary")
    table = "rollouts.parquet"
    if (whole / table).exists() and read_table(killed / table) != read_table(whole / table):
        found.append("rollouts")
    if {p.name for p in killed.iterdir()} != {p.name for p in whole.iterdir()}:
        found.append("files")
    return found


def logged(out: Path) -> list[dict]:
    """Metrics of every step without those that depend on the machine and on the moment of a kill."""
    return [untimed(row) for row in read_log(out / "metrics.jsonl")]


def untimed(row: dict) -> dict:
    machine = "seconds", "cpu_seconds", "tokens_per_s", "memory_gb"
    kept = ("scorer/",)  # a round that a kill made run twice finds its scores in the cache and asks no scorer
    return {key: value for key, value in row.items() if not key.startswith(machine + kept)}


def torment(verb: str, folder: Path, kills: int, rng: random.Random, scale: int = 1, **changes) -> dict:
    """Kill runs of one verb `kills` times in all; every run is brought to its end and compared. `changes` of settings."""
    world = build_world(folder / "world")
    whole = settings(verb, world, folder / "whole", scale) | changes
    pace = measure(verb, whole)
    phases: Counter[str] = Counter()
    unequal: dict[str, list[str]] = {}
    runs = 0
    while phases.total() < kills:
        config = settings(verb, world, folder / f"killed{runs}", scale) | changes
        for _ in range(min(KILLS_PER_RUN, kills - phases.total())):
            where = kill(verb, config, pace, rng)
            if where is None:
                break
            phases[where] += 1
        finish(verb, config)
        if found := differences(Path(config["out"]), Path(whole["out"])):
            unequal[Path(config["out"]).name] = found
        runs += 1
    return {
        "verb": verb,
        "kills": phases.total(),
        "runs": runs,
        "seconds_undisturbed": pace.start + pace.step * pace.steps,
        "phases": dict(phases.most_common()),
        "unequal": unequal,
    }


def table(results: list[dict]) -> str:
    """The results as Markdown."""
    lines = [
        "| verb | kills | runs | undisturbed, s | runs that differ | kills by phase |",
        "|---|---|---|---|---|---|",
    ]
    for r in results:
        where = ", ".join(f"{name} {count}" for name, count in r["phases"].items())
        differ = ", ".join(f"{name}: {' '.join(what)}" for name, what in r["unequal"].items()) or "none"
        lines.append(
            f"| {r['verb']} | {r['kills']} | {r['runs']} | {r['seconds_undisturbed']:.1f} | {differ} | {where} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verb", action="append", choices=["grpo", "sft"], help="only this verb; may be repeated")
    parser.add_argument("--kills", type=int, default=20, help="kills of each verb")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of the moments")
    parser.add_argument("--scale", type=int, default=4, help="length of a run")
    parser.add_argument("--json", type=Path, help="write the results here")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    results = []
    for verb in arguments.verb or ["grpo", "sft"]:
        with tempfile.TemporaryDirectory() as name:
            rng = random.Random(f"{arguments.seed} {verb}")
            results.append(torment(verb, Path(name), arguments.kills, rng, arguments.scale))
        print(table(results[-1:]).splitlines()[-1], flush=True)
    print(f"\n{table(results)}")
    if arguments.json:
        write_json(arguments.json, {"seed": arguments.seed, "results": results})
    sys.exit(1 if any(r["unequal"] for r in results) else 0)


if __name__ == "__main__":
    main()
