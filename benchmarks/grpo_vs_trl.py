"""One GRPO step of seethink against one of TRL's GRPOTrainer: CPU seconds, wall seconds, peak memory.

    python benchmarks/grpo_vs_trl.py [--case 256x4 --case ragged] [--steps 5] [--json out.json]

Each side runs in its own process on a tiny random Qwen2.5-VL made on the spot, fp32, vision tower frozen, with a reference
model (beta 0.04) and one optimiser step per round. The sides take turns step by step (ours, TRL, ours, TRL ...), so that a
slow minute of the machine hits both. Every step has new images. Counted on both sides: reading and preparing images,
generation, reward, reference, update. Prompt and completion tokens are checked to be equal.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median

from work import Case, call, machine, prepare

CASES = [
    *(Case(f"{n}x{g}", n, g) for g in (4, 8) for n in (64, 256, 576)),
    Case("ragged", 256, 4, length=0),
    Case("vocabulary", 256, 4, vocabulary=151_936),
    Case("32M", 256, 4, size="large"),
]
TARGETS = {"64x4": 3.5, "256x4": 5.0, "576x4": 6.0, "64x8": 4.0, "256x8": 6.5, "576x8": 8.0}
WARM_UP = 2


def run_case(case: Case, steps: int, attention: str, path: str, peer_onednn: bool) -> dict:
    """Both sides of a case by turns."""
    turns = WARM_UP + steps + 1  # the last one counts operations
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        context = multiprocessing.get_context("spawn")
        call(context, prepare, folder, case, turns)
        ours = start(context, serve_ours, folder, case, turns, path)
        peer = start(context, serve_peer, folder, case, turns, attention, peer_onednn)
        first = [side.recv() for side in (ours, peer)]
        rows = [[ask(side, "step") for side in (ours, peer)] for _ in range(WARM_UP + steps)][WARM_UP:]
        counted = [ask(side, "count") for side in (ours, peer)]
        for side in (ours, peer):
            side.send(None)
    if any(a["tokens"] != b["tokens"] for a, b in rows):
        raise RuntimeError(f"{case.name}: the sides saw different numbers of tokens")
    sides = [summary(*parts) for parts in zip(first, zip(*rows, strict=True), counted, strict=True)]
    result = {
        "case": case.name,
        "target": TARGETS.get(case.name),
        "tokens": rows[0][0]["tokens"],
        "ours": sides[0],
        "trl": sides[1],
    }
    for clock in ("cpu", "wall"):
        ratios = [peer[clock] / own[clock] for own, peer in rows]  # neighbours in time
        result[f"{clock}_ratio"], result[f"{clock}_spread"] = median(ratios), (min(ratios), max(ratios))
    result["memory_ratio"] = sides[0]["peak_mb"] / sides[1]["peak_mb"]
    result["parameters"], result["matmul_peak_gflops"] = first[0]["parameters"], first[0]["matmul_peak"] / 1e9
    for side in sides:
        side["share_of_peak"] = side["flops"] / side["cpu"] / first[0]["matmul_peak"]
    ours_flops, cpu = counted[0]["phase_flops"], sides[0]["phase_cpu"]
    result["share_of_peak_per_phase"] = {
        "rollout": ours_flops["rollout"] / cpu["rollout"] / first[0]["matmul_peak"],
        "update": (ours_flops["total"] - ours_flops["rollout"])
        / (cpu["total"] - cpu["rollout"])
        / first[0]["matmul_peak"],
    }
    return result


def summary(first: dict, rows: list[dict], counted: dict) -> dict:
    """Medians and spread of one side."""
    cpu = [row["cpu"] for row in rows]
    phases = {name: median(row["phases"][name] for row in rows) for name in rows[0]["phases"]}
    return {
        "cpu": median(cpu),
        "cpu_min": min(cpu),
        "cpu_max": max(cpu),
        "wall": median(row["wall"] for row in rows),
        "peak_mb": rows[-1]["peak_mb"],
        "idle_mb": first["idle_mb"],
        "flops": counted["flops"],
        "phase_cpu": phases,
    }


def serve_ours(*args) -> None:
    from ours import serve

    serve(*args)


def serve_peer(*args) -> None:
    from trl_peer import serve

    serve(*args)


def start(context, function, *args):
    """The parent's end of a pipe to a child process."""
    here, there = context.Pipe()
    context.Process(target=function, args=(there, *args), daemon=True).start()
    there.close()
    return here


def ask(side, command: str) -> dict:
    side.send(command)
    return side.recv()


def conditions() -> dict:
    """What the numbers depend on."""
    return {**machine(), "threads": 1, "precision": "fp32 on both sides", "trl": version("trl")}


def table(results: list[dict]) -> str:
    """The results as Markdown."""
    lines = [
        "| case | ours CPU s (min - max) | TRL CPU s (min - max) | CPU ratio | target | wall ratio "
        "| peak MB ours / TRL (share) | without imports | share of matmul peak ours (rollout, update) / TRL |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        a, b = r["ours"], r["trl"]
        target, phases = r["target"], r["share_of_peak_per_phase"]
        grown = [side["peak_mb"] - side["idle_mb"] for side in (a, b)]
        lines.append(
            f"| {r['case']} | {a['cpu']:.2f} ({a['cpu_min']:.2f} - {a['cpu_max']:.2f}) "
            f"| {b['cpu']:.2f} ({b['cpu_min']:.2f} - {b['cpu_max']:.2f}) "
            f"| **{r['cpu_ratio']:.2f}** ({r['cpu_spread'][0]:.2f} - {r['cpu_spread'][1]:.2f}) | {target if target else ''} | {r['wall_ratio']:.2f} "
            f"| {a['peak_mb']:.0f} / {b['peak_mb']:.0f} ({r['memory_ratio']:.2f}) "
            f"| {grown[0]:.0f} / {grown[1]:.0f} ({grown[0] / grown[1]:.2f}) "
            f"| {a['share_of_peak']:.0%} ({phases['rollout']:.0%}, {phases['update']:.0%}) / {b['share_of_peak']:.0%} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--case", action="append", choices=[c.name for c in CASES], help="only this case; may be repeated"
    )
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each side")
    parser.add_argument("--attention", default="sdpa", choices=["sdpa", "eager"], help="TRL's attention")
    parser.add_argument(
        "--path",
        default="default",
        choices=["default", "again"],
        help="default: what users get, training through the rollout's prefill; again: prompts are computed again",
    )
    parser.add_argument(
        "--peer-onednn",
        action="store_true",
        help="TRL's models get our oneDNN linear layers: what is left is removed work",
    )
    parser.add_argument("--json", type=Path, help="write the results here")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    results = []
    for case in CASES:
        if not args.case or case.name in args.case:
            results.append(run_case(case, args.steps, args.attention, args.path, args.peer_onednn))
            r = results[-1]
            print(f"{case.name}: {r['cpu_ratio']:.2f}x less CPU than TRL", flush=True)
    print(f"\n{json.dumps(conditions())}\n\n{table(results)}")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        record = {"date": date.today().isoformat(), "machine": conditions(), "results": results}
        args.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
