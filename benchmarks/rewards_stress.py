"""Long runs of the rewards on hostile text: no exception, no slow item, flat memory, workers killed under load.

    python benchmarks/rewards_stress.py [--fuzz 200000] [--items 1000000] [--kills 40] [--seed 0]

Responses are mutated from answers of the test tables and from fragments of LaTeX, code and Unicode. Times are CPU time of the
thread; an item over the limit is run three more times and counts with its best, since a busy machine has cold caches.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import time
from pathlib import Path

from seethink.core.nouns import Sample
from seethink.core.tags import compose
from seethink.rewards import RewardConfig, Rewarder
from seethink.rewards.maths.decide import decide, read_gold

TESTS = Path(__file__).parents[1] / "tests"
TABLES = [TESTS / "rewards_math.txt", TESTS / "rewards_wording.txt"]
FRAGMENTS = (TESTS / "rewards_fragments.txt").read_text(encoding="utf-8").splitlines() + [
    "\0",
    "\u200b",
    "\u202e",
    "\n",
    " ",
]
INLINE = Rewarder(RewardConfig.model_validate({"symbolic": {"on": False}}))
LIMIT_S = 0.05
GOLDS = [
    ("digit", "7"), ("digit", "1000"), ("choice", "C"), ("choice", "AC"), ("box", "[0.1, 0.2, 0.7, 0.5]"),
    ("box", "[[0.1,0.1,0.3,0.3],[0.6,0.6,0.9,0.9]]"), ("open", "A man repairs a bicycle next to a lake."),
]  # fmt: skip
MEGABYTES = ["a", "\0", "é", "<think>", "</answer>", "9", "(", "\\frac{", "½", " ", "\n", "$", "x^"]


def material() -> tuple[list[Sample], list[str]]:
    lines = [
        line for table in TABLES for line in table.read_text(encoding="utf-8").split("\n") if line and line[0] != "#"
    ]
    golds = GOLDS + [("math", line) for line in lines if not line.startswith("  ")]
    samples = [Sample(str(i), "", (), f"Solve ${gold}$.", gold, kind) for i, (kind, gold) in enumerate(golds)]
    return samples, [line[4:] for line in lines if line.startswith("  ")] + [gold for _, gold in GOLDS]


def mutate(answers: list[str], rng: random.Random) -> str:
    text = rng.choice(answers)
    for _ in range(rng.randint(0, 5)):
        i = rng.randint(0, len(text))
        j = min(len(text), i + rng.randint(0, 8))
        draw = rng.random()
        if draw < 0.45:
            text = text[:i] + rng.choice(FRAGMENTS) * rng.choice((1, 1, 1, 2, 7, 60)) + text[i:]
        elif draw < 0.6:
            text = text[:i] + text[j:]
        elif draw < 0.8:
            text = text[:i] + text[i:j] * rng.randint(1, 40) + text[j:]
        else:
            text = text[:i] + rng.choice(answers) + text[i:]
    return text


def one(sample: Sample, response: str) -> float:
    """CPU seconds of the best of up to four tries; the reward is checked on each."""
    best = float("inf")
    for _ in range(4):
        decide.cache_clear()
        start = time.thread_time()
        reward = INLINE.score(sample, response)
        best = min(best, time.thread_time() - start)
        assert reward.value is None or 0 <= reward.value <= 1
        if best < LIMIT_S:
            break
    return best


def fuzz(count: int, seed: int) -> dict[str, object]:
    samples, answers = material()
    rng = random.Random(seed)
    worst: list[tuple[float, str]] = []
    for _ in range(count):
        sample, answer = rng.choice(samples), mutate(answers, rng)
        response = compose("x", answer) if rng.random() < 0.95 else answer
        worst = sorted([*worst, (one(sample, response), f"{sample.gold[:30]} <- {answer[:80]}")], reverse=True)[:3]
    long_texts = [compose("", unit * (10**6 // len(unit))) for unit in MEGABYTES] + [
        unit * (10**6 // len(unit)) for unit in MEGABYTES
    ]
    longest = max(one(sample, text) for text in long_texts for sample in samples[:12:2])
    return {
        "items": count,
        "worst_ms": [(round(1e3 * t, 1), text) for t, text in worst],
        "megabyte_worst_ms": round(1e3 * longest, 1),
    }


def memory(count: int, seed: int) -> dict[str, object]:
    """Resident memory at ten points of a run; after the caches are full it has to stay."""
    samples, answers = material()
    rng = random.Random(seed)
    sizes, start = [], time.perf_counter()
    for part in range(10):
        for _ in range(count // 10 // 1000):
            chosen = [rng.choice(samples) for _ in range(1000)]
            INLINE.score_batch(chosen, [compose("x", mutate(answers, rng)) for _ in chosen])
        sizes.append(round(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20))
        print(f"  {(part + 1) * count // 10} items, {sizes[-1]} MiB", flush=True)
    return {
        "items": count,
        "resident_mib": sizes,
        "seconds": time.perf_counter() - start,
        "cached_golds": read_gold.cache_info().currsize,
    }


def kills(count: int) -> dict[str, object]:
    """Every second item never ends, while other processes keep all cores busy; the rest must be answered."""
    burners = [os.fork() for _ in range(os.cpu_count() or 1)]
    if 0 in burners:
        end = time.monotonic() + 600
        while time.monotonic() < end and os.getppid() != 1:
            sum(range(10**5))
        os._exit(0)
    try:
        sample = Sample("m", "", (), "q", r"\frac12", "math")
        answers = [
            rf"\lim_{{x\to {i}}} \sum_{{k=1}}^{{10^9}} k^k" if i % 2 else rf"\int_0^1 x\,dx + {i} - {i}"
            for i in range(count)
        ]
        start = time.perf_counter()
        limits = RewardConfig.model_validate({"symbolic": {"batch_seconds": 600, "item_seconds": 20}})
        rewards = Rewarder(limits).score_batch([sample] * count, [compose("", a) for a in answers])
        seconds = time.perf_counter() - start
    finally:
        for pid in burners:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
    found = [(r.value, r.status) for r in rewards]
    assert set(found[1::2]) == {(0.0, "timeout")} and set(found[::2]) == {(1.0, "ok")}, found
    return {"items": count, "killed": count // 2, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fuzz", type=int, default=200_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    Rewarder().score_batch(*zip(*[(s, compose("", s.gold)) for s in material()[0]], strict=True))  # imports
    for name, result in (
        ("kills", kills(options.kills) if options.kills else None),
        ("fuzz", fuzz(options.fuzz, options.seed)),
        ("memory", memory(options.items, options.seed)),
    ):
        print(name, json.dumps(result, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
