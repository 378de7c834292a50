"""CPU time and accuracy of the mixed reward, with math-verify's beside it on the mathematical part.

    python benchmarks/rewards.py [--vectors vectors.jsonl] [--peer 1024] [--json out.json]

2,048 responses as in one rollout round of 512 prompts x 4: half mathematics, half of that functions as in Math-PUMA, the
rest counts, letters, boxes and descriptions; half of them are right, and no prompt occurs twice. math-verify gets dollar
signs where they are missing, its best case. CPU seconds are of the process and its children. Accuracy: against the truth the
responses were made with, and against a file of vectors (fields id, kind, response, gold, expected, tags) where one is given.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import time
from importlib.metadata import version
from pathlib import Path

from seethink.core.nouns import Sample, sample_from_row
from seethink.core.tags import compose, extract
from seethink.rewards import Rewarder
from seethink.rewards.maths.decide import decide
from seethink.rewards.maths.workers import shared_pool

PROMPTS, GROUP = 512, 4
BASELINE = 44.0  # items per CPU second of math-verify, as published with the vectors
Item = tuple[Sample, str, bool]

FUNCTIONS = [  # gold, right ways to write it, wrong ones; a, b are small different integers
    (r"y=x^2-{s}x+{p}", [r"y=(x-{a})(x-{b})", r"y={p}-{s}x+x^2", r"x^2 - {s}x + {p}"], [r"y=(x+{a})(x-{b})", r"y=x^2+{s}x+{p}"]),
    (r"y=|x+{a}|", [r"y=|{a}+x|", r"y=\left|-x-{a}\right|", r"y=\sqrt{{(x+{a})^2}}"], [r"y=x+{a}", r"y=|x-{a}|", r"y=|x|+{a}"]),
    (r"y={a}\cos({b}x)+1", [r"y=1+{a}cos({b}x)", r"y={a}\cos(-{b}x)+1"], [r"y={a}\sin({b}x)+1", r"y={b}\cos({a}x)+1"]),
    (r"y=-{a}\sin(-{b}x)", [r"y={a}\sin {b}x", r"y={a}\sin({b}x)"], [r"y=-{a}\sin({b}x)", r"y={a}\cos({b}x)"]),
    (r"y=\log_{{{a}}}(x+{b})", [r"y=\frac{{\ln(x+{b})}}{{\ln {a}}}", r"y=\log_{{{a}}}({b}+x)"], [r"y=\ln(x+{b})", r"y=\log_{{{b}}}(x+{a})"]),
    (r"y=e^{{x-{a}}}", [r"y=\frac{{e^x}}{{e^{{{a}}}}}", r"y=e^{{-{a}+x}}"], [r"y=e^x-{a}", r"y=e^{{x+{a}}}"]),
    (r"y=\sqrt{{x-{a}}}", [r"y=(x-{a})^{{1/2}}", r"y=√(x-{a})"], [r"y=\sqrt{{x}}-{a}", r"y=\sqrt{{x+{a}}}"]),
    (r"y=\frac{{{a}}}{{x-{b}}}", [r"y={a}(x-{b})^{{-1}}", r"y=-\frac{{{a}}}{{{b}-x}}"], [r"y=\frac{{{a}}}{{x}}-{b}", r"y=\frac{{{b}}}{{x-{a}}}"]),
    (r"y={a}^x-{b}", [r"y=-{b}+{a}^{{x}}", r"y=e^{{x\ln {a}}}-{b}"], [r"y={a}^{{x-{b}}}", r"y={a}^x+{b}"]),
    (r"y=\tan(\frac{{x}}{{{a}}})+{b}", [r"y={b}+\tan\frac{{x}}{{{a}}}"], [r"y=\tan({a}x)+{b}", r"y=\frac{{\tan(x)}}{{{a}}}+{b}"]),
]  # fmt: skip
VALUES = [
    (r"\frac{{{a}}}{{{c}}}", [r"{a}/{c}", r"\frac{{{a2}}}{{{c2}}}", r"\dfrac{{{a}}}{{{c}}}"], [r"\frac{{{c}}}{{{a}}}", r"{a}.{c}"]),
    (r"{a}\sqrt{{{c}}}", [r"{a}√{c}", r"\sqrt{{{c}}}\cdot {a}", r"{a}*sqrt({c})"], [r"{c}\sqrt{{{a}}}", r"{a}\sqrt{{{c}}}+1"]),
    (r"{a}\pi", [r"{a}*pi", r"\pi\cdot {a}"], [r"{c}\pi", r"{a}+\pi"]),
    (r"({a}, {c})", [r"\left({a},{c}\right)", r"({a}.0, {c})"], [r"({c}, {a})", r"({a}, -{c})"]),
    (r"\{{{a}, {c}\}}", [r"{c}, {a}", r"x={a} or x={c}"], [r"{a}", r"\{{{a}, {c}, 0\}}"]),
    (r"[{a}, {d})", [r"{a}\le x<{d}", r"x\in[{a},{d})"], [r"({a}, {d})", r"[{a}, {d}]"]),
    (r"{n}", [r"{n}.0", r"x={n}", r"\boxed{{{n}}}"], [r"{n1}", r"-{n}"]),
    (r"{q}\%", [r"{q} percent", r"0.{q}", r"{q}\%"], [r"{q}5\%", r"{n}"]),
]  # fmt: skip


def mathematics(number: int, rng: random.Random) -> list[Item]:
    """`number` groups of four, by turns functions and values."""
    items, seen = [], set()
    while len(items) < number * GROUP:
        gold, right, wrong = rng.choice(FUNCTIONS if len(items) // GROUP % 2 else VALUES)
        a, b = rng.sample(range(2, 60), 2)
        c, n = rng.choice([k for k in (11, 13, 17, 19, 23, 29) if k != a]), rng.randint(100, 10**7)
        names = {
            "a": a,
            "b": b,
            "c": c,
            "d": a + c,
            "s": a + b,
            "p": a * b,
            "n": n,
            "n1": n + 1,
            "q": rng.randint(11, 99),
            "a2": 3 * a,
            "c2": 3 * c,
        }
        reference = gold.format(**names)
        if reference in seen:
            continue
        seen.add(reference)
        sample = Sample(reference, "", (), "q", reference, "math")
        for way in (right, wrong, right, wrong):
            items.append((sample, compose("step by step", rng.choice(way).format(**names)), way is right))
    return items


def others(number: int, rng: random.Random) -> list[Item]:
    """Groups of counts, letters, boxes and descriptions."""
    items: list[Item] = []
    words = [
        "man",
        "woman",
        "dog",
        "red",
        "blue",
        "car",
        "bicycle",
        "lake",
        "tree",
        "house",
        "runs",
        "sits",
        "behind",
        "near",
        "two",
        "small",
        "large",
        "old",
    ]
    for i in range(number):
        kind = ("digit", "choice", "box", "open")[i % 4]
        for k in range(GROUP):
            right = k % 2 == 0
            n = rng.randint(0, 999)
            x, y = rng.uniform(0, 0.5), rng.uniform(0, 0.5)
            gold, answer = {
                "digit": (str(n), f"There are {n if right else n + 1} cubes."),
                "choice": ("BCDA"[i % 4], f"({'BCDA'[i % 4] if right else 'ABCD'[i % 4]}) because of {n}"),
                "box": (f"[{x:.4f}, {y:.4f}, {x + 0.4:.4f}, {y + 0.4:.4f}]", f'{{"bbox_2d": [{x + (not right) * 0.3:.4f}, {y:.4f}, {x + 0.45:.4f}, {y + 0.4:.4f}]}}'),
                "open": (" ".join(rng.sample(words, 8)), " ".join(rng.sample(words, 7))),
            }[kind]  # fmt: skip
            items.append((Sample(f"{kind}{i}", "", (), "q", gold, kind), compose("looking at it", answer), right))
    return items


def cpu() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def timed(items: list[Item], rewarder: Rewarder) -> tuple[dict[str, float], list[float | None]]:
    """Figures and rewards; worker processes are closed, so that their time is counted."""
    shared_pool().close()
    start, began = time.perf_counter(), cpu()
    rewards = rewarder.score_batch([s for s, _, _ in items], [r for _, r, _ in items])
    wall = time.perf_counter() - start
    shared_pool().close()
    return {"items": len(items), "cpu_s": cpu() - began, "wall_s": wall}, [r.value for r in rewards]


def peer(items: list[Item]) -> tuple[dict[str, float], list[bool]]:
    """math-verify on extracted answers, dollar signs added where they are missing."""
    from math_verify import parse, verify

    def read(text: str) -> list:
        return parse(text if "$" in text or "\\(" in text or "\\[" in text or "\\boxed" in text else f"${text}$")

    verify(read("x+1"), read("1+x"))  # imports
    start, began = time.perf_counter(), cpu()
    verdicts = [verify(read(s.gold), read(extract(r).answer or "")) for s, r, _ in items]
    return {"items": len(items), "cpu_s": cpu() - began, "wall_s": time.perf_counter() - start}, verdicts


def accuracy(verdicts: list[bool], items: list[Item]) -> float:
    return sum(v == truth for v, (_, _, truth) in zip(verdicts, items, strict=True)) / len(items)


def on_vectors(path: Path) -> dict[str, object]:
    """Per kind: share of the vectors that leave no choice which are decided as they should be, and of the wrong answers the
    share that is paid; math-verify's for the mathematical ones; and every disagreement."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    rows = [r for r in rows if r["kind"] not in ("format", "open") and "policy" not in r["tags"]]
    items = [(sample_from_row({"question": "", **r}), r["response"], r["expected"] == 1) for r in rows]
    rewards = Rewarder().score_batch([s for s, _, _ in items], [r for _, r, _ in items])
    found: dict[str, object] = {}
    for kind in sorted({s.kind for s, _, _ in items}):
        mine = [(r.value, row) for r, row, (s, _, _) in zip(rewards, rows, items, strict=True) if s.kind == kind]
        wrong = [value for value, row in mine if row["expected"] == 0]
        found[kind] = {
            "vectors": len(mine),
            "as_expected": sum(as_expected(*pair) for pair in mine) / len(mine),
            "wrong_answers": len(wrong),
            "wrong_answers_paid": sum(bool(value) for value in wrong) / max(1, len(wrong)),
        }
    mathematical = [item for item in items if item[0].kind == "math"]
    _, theirs = peer(mathematical)
    found["math_verify_on_the_mathematical_ones"] = {
        "as_expected": accuracy(theirs, mathematical),
        "wrong_answers_paid": sum(v for v, (_, _, truth) in zip(theirs, mathematical, strict=True) if not truth)
        / max(1, sum(not truth for _, _, truth in mathematical)),
    }
    found["disagreements"] = [
        f"{row['id']}: {row['gold'][:60]} <- {(reward.answer or row['response'])[:80]}: {reward.value} for {row['expected']}, "
        f"{reward.status} {reward.detail}"
        for reward, row in zip(rewards, rows, strict=True)
        if not as_expected(reward.value, row)
    ]
    return found


def as_expected(value: float | None, row: dict) -> bool:
    expected = row["expected"]
    return (
        value is None if expected is None else value is not None and abs(value - expected) <= (row.get("tol") or 1e-6)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=Path)
    parser.add_argument(
        "--peer",
        type=int,
        nargs="?",
        const=PROMPTS * GROUP // 2,
        default=PROMPTS * GROUP // 2,
        help="mathematical items that math-verify gets",
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rng = random.Random(0)
    maths, rest = mathematics(PROMPTS // 2, rng), others(PROMPTS // 2, rng)
    hard = [
        (Sample(f"i{k}", "", (), "q", rf"\frac{{{k}}}{{2}}", "math"), compose("", rf"\int_0^1 {k}x\,dx"), True)
        for k in range(1, 17, 2)
    ]
    endless = (Sample("e", "", (), "q", "3", "math"), compose("", r"\lim_{x\to 0} \sum_{k=1}^{10^9} k^k"), False)
    rewarder = Rewarder()
    rewarder.score_batch([s for s, _, _ in maths[:8] + rest[:16]], [r for _, r, _ in maths[:8] + rest[:16]])  # imports
    decide.cache_clear()
    math_figures, values = timed(maths, rewarder)
    decide.cache_clear()
    all_figures, _ = timed(maths + rest, rewarder)
    decide.cache_clear()
    worker_figures, _ = timed([*maths[: -len(hard) - 1], *hard, endless, *rest], rewarder)
    ours = accuracy([v == 1 for v in values], maths)
    peer_figures, verdicts = peer(maths[: options.peer])
    speed = (math_figures["items"] / math_figures["cpu_s"]) / (peer_figures["items"] / peer_figures["cpu_s"])
    result = {
        "machine": {
            "python": platform.python_version(),
            "math_verify": version("math-verify"),
            "cores": os.cpu_count(),
        },
        "mathematics": {**math_figures, "accuracy": ours},
        "all": all_figures,
        "all_with_symbolic_items": {**worker_figures, "symbolic": len(hard) + 1},
        "math_verify": {**peer_figures, "accuracy": accuracy(verdicts, maths[: options.peer])},
        "times_less_cpu": speed,
        "times_less_cpu_than_baseline": math_figures["items"] / math_figures["cpu_s"] / BASELINE,
    }
    if options.vectors:
        result["vectors"] = on_vectors(options.vectors)
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
