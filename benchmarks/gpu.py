"""The GRPO step on a GPU: seconds, tokens, memory and share of peak of every phase, what sharing the prompt saves, and TRL beside it.

    python benchmarks/gpu.py [--trained LoRA --trained language] [--steps 3] [--peer] [--json benchmarks/results/DATE-GPU.json]
    python benchmarks/gpu.py --device cpu --size tiny        # the same code on a toy, to see that it runs

The shape of Qwen2.5-VL-3B with random weights, computed in bf16, vision tower frozen, LoRA or all language weights, with a
reference (beta 0.04), by the calls of `seethink grpo` with the settings that it chooses for the GPU. Two settings: the paper's
(images of 588 x 588 pixels, T = 250, G = 4) and a long prompt (952 x 952 pixels, G = 8). Per phase: median wall seconds, tokens
per second, peak memory beside what the plan says, and floating point operations counted from shapes (multiplications of weights
and of attention, nothing for recomputation) as a share of what a large bf16 matmul reaches on the device.

Update and reference are timed in two ways on the same completions: packed, each prompt once, and plain, one row per completion
through transformers' own sdpa attention (with our chunked head and cached image features, so that only the sharing differs). The norms
of their gradients are compared as well (`gradient_gap`). Removed work is G (P + T) / (P + G T); the target is 0.9 of it.

`--peer`: after ours, on the same machine, TRL's GRPOTrainer takes whole steps of the paper's setting (gpu_peer.py).
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from statistics import median

from work import Case, call, draw_images, machine, parameter_counts, peak_mb, prepare

from seethink.core.store import write_json

SETTINGS = {
    "3B": [
        Case("paper", 441, 4, prompts=8, length=250, vocabulary=151_936, size="3B"),
        Case("long prompt", 1156, 8, length=250, vocabulary=151_936, size="3B"),
    ],
    "tiny": [Case("paper", 64, 4, length=24, size="tiny"), Case("long prompt", 144, 8, length=24, size="tiny")],
}
TARGET = 0.9
WARM_UP = 1


def measure(connection, folder: Path, cases: list[Case], index: int, device_name: str, steps: int) -> None:
    """Every setting with one choice of what is trained, in its own process; the GPU's kernels are compiled once."""
    import torch

    device, rows, loaded = torch.device(device_name), [], {}
    for case in cases:
        try:
            rows.append(measure_case(folder, case, index, device, steps, loaded))
        except torch.OutOfMemoryError as error:
            rows.append({"setting": case.name, "failed": str(error).partition(".")[0]})
        gc.collect()  # models refer to themselves
        if device.type == "cuda":
            torch.cuda.empty_cache()
    connection.send({"rows": rows, "head": head_cost(device)})


def measure_case(folder: Path, case: Case, index: int, device, steps: int, loaded: dict) -> dict:
    """One setting; `loaded` holds a policy from one to the next, if it is the same."""
    import torch
    from gpu_plain import plain_gradients, stock_attention
    from step import CHOICES, GRPO, encoded_prompts, load

    from seethink.train.memory import memory_plan, shapes
    from seethink.train.model.policy import image_features

    precision = "bfloat16" if device.type == "cuda" else "float32"
    choice, longest = chosen(folder, case, CHOICES[index], device)
    again = choice.checkpoint_layers
    if again not in loaded:
        loaded.clear()
        loaded[again] = load(
            folder, choice, device, "float32", precision
        )  # masters in fp32, as seethink grpo holds them
    policy = loaded[again]
    side = GRPO(policy, folder, case, choice, precision)
    plan = memory_plan(side.config, shapes(side.config.model, precision), longest, precision)
    watch, gap = Watch(device), 0.0
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            watch.first = {name: values[0] for name, values in watch.seconds.items()}
            watch.seconds.clear()
        samples, prompts = watch("images", encoded_prompts, policy, folder / case.name, case, step)
        policy.features.clear()
        with policy.autocast():
            watch("vision", image_features, policy, prompts)
        groups = watch("rollout", side.sample, samples, prompts, step)
        watch("update", side.update, groups)
    for _ in range(2):
        packed = watch("packed", packed_gradients, side, groups)
        with stock_attention(policy.model, side.learner.reference):
            gap = max(gap, abs(packed / watch("plain", plain_gradients, side, groups) - 1))
    P, T, G = len(prompts[0].ids), case.max_tokens, case.group
    removed = G * (P + T) / (P + G * T)
    seconds = {name: median(values) for name, values in watch.seconds.items()}
    peak = matmul_peak(device, getattr(torch, precision))
    whole = [
        sum(parts) for parts in zip(*(watch.seconds[n] for n in ("images", "vision", "rollout", "update")), strict=True)
    ]
    return {
        "setting": case.name, "trained": choice.name, "P": P, "T": T, "G": G, "prompts": case.prompts,
        "micro_tokens": choice.micro_tokens, "checkpoint_layers": choice.checkpoint_layers,
        "step_seconds": median(whole), "step_spread": (min(whole), max(whole)), "first_seconds": watch.first,
        "phases": {
            name: {
                "seconds": seconds[name],
                "tokens_per_s": tokens / seconds[name],
                "peak_gb": watch.peak[name] * 2**20 / 1e9,
                "share_of_peak": flops / seconds[name] / peak if flops else None,
            }
            for name, tokens, flops in work_of(policy, case, P, T, G, choice.lora_rank)
        },
        "planned_gb": {"rollout": plan.phase("sampling") / 1e9, "update": plan.phase("updating") / 1e9},
        "speed_up": seconds["plain"] / seconds["packed"], "removed_work": removed, "target": TARGET * removed,
        "gradient_gap": gap, "matmul_peak_tflops": peak / 1e12,
    }  # fmt: skip


def chosen(folder: Path, case: Case, choice, device):
    """The choice with the tokens computed at once, and the recomputation, that `seethink grpo` takes on this device; the longest."""
    from dataclasses import replace

    import torch
    from step import grpo_config

    from seethink.train.memory import fitted
    from seethink.train.preflight import Longest

    prompt = case.image_tokens + 64  # of text, and more than there are
    longest = Longest(prompt, case.max_tokens, prompt + case.max_tokens)
    config = grpo_config(folder, case, choice, "bfloat16" if device.type == "cuda" else "float32")
    if device.type == "cuda":
        config = fitted(config, longest, torch.cuda.get_device_properties(device).total_memory)
    return replace(choice, checkpoint_layers=config.model.checkpoint_layers, micro_tokens=config.micro_tokens), longest


class Watch:
    """Wall seconds of every call of a phase, and the phase's peak memory (on a CPU that of the process so far)."""

    def __init__(self, device):
        self.device, self.seconds, self.first, self.peak = device, {}, {}, {}

    def __call__(self, phase: str, function, *args):
        import torch

        on_gpu = self.device.type == "cuda"
        if on_gpu:
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
        began = time.perf_counter()
        result = function(*args)
        if on_gpu:
            torch.cuda.synchronize(self.device)
        self.seconds.setdefault(phase, []).append(time.perf_counter() - began)
        peak = torch.cuda.max_memory_allocated(self.device) / 2**20 if on_gpu else peak_mb()
        self.peak[phase] = max(self.peak.get(phase, 0.0), peak)
        return result


def packed_gradients(side, groups) -> float:
    """Update and reference as `seethink grpo` computes them, without the optimiser; returns the norm of the gradients."""
    from gpu_plain import gradient_norm

    from seethink.train.update import backward, batches

    config = side.config
    for rollout in (r for g in groups for r in g.rollouts):
        rollout.weight = 1 / (len(groups) * config.group * config.max_tokens)
    for batch in batches(groups, config.micro_tokens, []):
        backward(side.learner, batch, on_policy=True)
    return gradient_norm(side.learner.optimiser)


def work_of(policy, case: Case, P: int, T: int, G: int, lora: int) -> list[tuple[str, int, float]]:
    """(phase, tokens, floating point operations) of a step; operations of the vision tower are not counted.

    The update goes through the prefill of the rollout where it can, so its own are not a number of shapes alone.
    """
    text = policy.model.config.text_config
    weights, head = parameter_counts(policy.model)["language"], text.vocab_size * text.hidden_size
    # forward by the reference and the policy, gradients of activations, and of weights where these are trained
    passes = 3 if lora else 4

    def flops(rows: int, tokens: int, pairs: float) -> float:  # of one pass
        attention = 4 * text.num_hidden_layers * text.hidden_size * pairs
        return rows * (2 * weights * tokens + attention) + 2 * head * case.prompts * G * T

    B = case.prompts
    shared = flops(B, P + G * T, P * P / 2 + G * (T * P + T * T / 2))
    plain = flops(B * G, P + T, (P + T) ** 2 / 2)
    return [
        ("images", B * P, 0), ("vision", B * case.image_tokens, 0), ("rollout", B * G * T, shared),
        ("packed", B * (P + G * T), passes * shared), ("plain", B * G * (P + T), passes * plain),
        ("update", B * (P + G * T), 0),
    ]  # fmt: skip


def matmul_peak(device, dtype) -> float:
    """Floating point operations per second of the best of twenty large square matmuls."""
    import torch

    size = 8192 if device.type == "cuda" else 1024
    a, b = torch.rand(2, size, size, device=device, dtype=dtype)
    watch = Watch(device)
    for _ in range(20):
        watch("matmul", torch.matmul, a, b)
    return 2 * size**3 / min(watch.seconds["matmul"])


def head_cost(device) -> dict:
    """Forward and backward of the language head over 8,192 tokens, beside its three bare products."""
    import torch

    from seethink.train.loss import LossParts, head_loss

    on_gpu = device.type == "cuda"
    V, hidden, N = (151_936, 2048, 8192) if on_gpu else (2048, 64, 512)
    x = torch.randn(N, hidden, device=device, dtype=torch.bfloat16 if on_gpu else torch.float32, requires_grad=True)
    head = torch.nn.Parameter(torch.randn(V, hidden, device=device) * 0.02)
    targets, banned = torch.randint(3, V, (N,), device=device), torch.tensor([1, 2], device=device)
    plain, inputs = head.detach().to(x.dtype), x.detach()
    watch = Watch(device)

    def bare() -> None:
        logits = inputs @ plain.t()
        logits @ plain, logits.t() @ inputs

    def ours() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=on_gpu):
            of_tokens = lambda log_probs, _: LossParts(-log_probs.sum() / N, {})  # noqa: E731
            loss = head_loss(x, head, targets, banned, 0.8, of_tokens).loss
        loss.backward()
        x.grad = head.grad = None

    held = torch.cuda.memory_allocated(device) / 2**20 if on_gpu else 0
    for _ in range(4):
        watch("bare", bare)
        watch("ours", ours)
    bare_s, ours_s = (median(watch.seconds[name][1:]) for name in ("bare", "ours"))
    return {
        "bare_ms": bare_s * 1e3,
        "ours_ms": ours_s * 1e3,
        "ratio": ours_s / bare_s,
        "gib": (watch.peak["ours"] - held) / 1024,
    }


def run(arguments, cases: list[Case]) -> dict:
    """Every choice of what is trained, one process after the other; then TRL."""
    context, found = multiprocessing.get_context("spawn"), {"rows": []}
    steps = WARM_UP + arguments.steps
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        call(context, prepare, folder, cases[0], 0, 0, arguments.device)
        for case in cases:
            draw_images(folder / case.name, case, steps)
        for index in arguments.trained:
            answer = asked(context, measure, folder, cases, index, arguments.device, arguments.steps)
            found = {"rows": found["rows"] + answer["rows"], "head": answer["head"]}
            print(table(found), flush=True)  # the next one may fail
        if arguments.peer:
            from gpu_peer import measure as measure_peer

            found["trl"] = asked(context, measure_peer, folder, cases[0], arguments.device, steps)
    return found


def asked(context, function, *arguments):
    """What a process of its own answers."""
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=function, args=(there, *arguments))
    child.start()
    there.close()
    answer = here.recv()
    child.join()
    return answer


def table(found: dict) -> str:
    """The results as Markdown."""
    lines = [
        "| setting | trained | phase | s | tokens/s | peak, GB | planned, GB | share of matmul peak |",
        "|---|---|---|---|---|---|---|---|",
    ]
    done = [r for r in found["rows"] if "failed" not in r]
    for r in done:
        for name, p in r["phases"].items():
            share = f"{p['share_of_peak']:.0%}" if p["share_of_peak"] else ""
            planned = f"{r['planned_gb'][name]:.1f}" if name in r["planned_gb"] else ""
            start = f"| {r['setting']} (P={r['P']}, T={r['T']}, G={r['G']}) | {r['trained']} | {name} "
            lines.append(
                f"{start}| {p['seconds']:.3f} | {p['tokens_per_s']:,.0f} | {p['peak_gb']:.1f} | {planned} | {share} |"
            )
    lines += [f"| {r['setting']} | failed: {r['failed']} |" for r in found["rows"] if "failed" in r]
    lines += [
        "",
        "| setting | trained | step, s (min - max) | micro_tokens, recomputed | packed against plain | removed work | target |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in done:
        low, high = r["step_spread"]
        lines.append(
            f"| {r['setting']} | {r['trained']} | {r['step_seconds']:.2f} ({low:.2f} - {high:.2f}) "
            f"| {r['micro_tokens']}, {r['checkpoint_layers']} | {r['speed_up']:.2f} | {r['removed_work']:.2f} | {r['target']:.2f} |"
        )
    if "head" in found:
        h = found["head"]
        lines += [
            "",
            f"head: {h['ours_ms']:.1f} ms, bare products {h['bare_ms']:.1f} ms: {h['ratio']:.2f}x, {h['gib']:.2f} GiB",
        ]
    if "trl" in found:
        t = found["trl"]
        lines.append(
            f"TRL {t['version']}: {t['step_seconds']:.2f} s a step ({t['step_spread'][0]:.2f} - {t['step_spread'][1]:.2f}), "
            f"{t['generate_seconds']:.2f} of them generating, peak {t['peak_gb']:.1f} GB"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--size", default="3B", choices=list(SETTINGS))
    parser.add_argument("--steps", type=int, default=3, help="timed steps")
    names = {"LoRA": 0, "language": 1}  # places in step.CHOICES
    parser.add_argument("--trained", action="append", choices=list(names), help="only this; may be repeated")
    parser.add_argument("--peer", action="store_true", help="TRL too, with LoRA")
    parser.add_argument("--json", type=Path, help="write the results here")
    arguments = parser.parse_args()
    import torch

    on_gpu = arguments.device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        raise SystemExit("gpu.py: torch sees no CUDA device; --device cpu --size tiny shows that the code runs")
    if not on_gpu and arguments.size != "tiny":
        raise SystemExit("gpu.py: on a CPU only --size tiny")
    os.environ.setdefault("OMP_NUM_THREADS", "8" if on_gpu else "1")
    where = {
        **machine(),
        "device": torch.cuda.get_device_name() if on_gpu else "CPU",
        "date": time.strftime("%Y-%m-%d"),
    }
    arguments.trained = [names[name] for name in arguments.trained or names]
    found = run(arguments, SETTINGS[arguments.size])
    print(f"{where}\n\n{table(found)}")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(arguments.json, {"machine": where, **found})


if __name__ == "__main__":
    main()
