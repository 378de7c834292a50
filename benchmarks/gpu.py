"""The GRPO step on a GPU: seconds, tokens, memory and share of peak of every phase, and what sharing the prompt saves.

    python benchmarks/gpu.py [--size 3B] [--steps 3] [--micro_tokens 8192] [--json benchmarks/results/DATE-GPU.json]
    python benchmarks/gpu.py --device cpu --size tiny        # the same code on a toy, to see that it runs

The shape of Qwen2.5-VL-3B with random weights, fp32 masters computed in bf16, vision tower frozen, LoRA and all language weights, with a reference (beta
0.04). Two settings: the paper's (images of 588 x 588 pixels, T = 250, G = 4) and a long prompt (952 x 952 pixels, G = 8). Per
phase: median wall seconds, tokens per second, peak memory, and floating point operations counted from shapes (multiplications
of weights and of attention, nothing for recomputation) as a share of what a large bf16 matmul reaches on the device.

Update and reference are timed in two ways on the same completions: packed, each prompt once, and plain, one row per completion
through transformers' own sdpa attention (with our chunked head and cached image features, so that only the sharing differs). The norms
of their gradients are compared as well (`gradient_gap`).
Removed work is G (P + T) / (P + G T); the target is 0.9 of it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from statistics import median

from work import BETA, Case, call, machine, parameter_counts, peak_mb, prepare

from seethink.core.store import write_json

SETTINGS = {
    "3B": [
        Case("paper", 441, 4, length=250, vocabulary=151_936, size="3B"),
        Case("long prompt", 1156, 8, length=250, vocabulary=151_936, size="3B"),
    ],
    "tiny": [Case("paper", 64, 4, length=24, size="tiny"), Case("long prompt", 144, 8, length=24, size="tiny")],
}
TARGET = 0.9
WARM_UP = 1


def measure(connection, folder: Path, case: Case, index: int, device_name: str, steps: int, micro_tokens: int) -> None:
    """One setting with one choice of what is trained, in its own process."""
    import torch
    from step import CHOICES, GRPO, encoded_prompts, load

    from seethink.train.model.policy import image_features

    device, choice = torch.device(device_name), CHOICES[index]
    precision = "bfloat16" if device.type == "cuda" else "float32"
    policy = load(folder, choice, device, "float32", precision)  # masters in fp32, as seethink grpo holds them
    side = GRPO(policy, folder, case, choice, precision, micro_tokens=micro_tokens)
    watch = Watch(device)
    gap = 0.0
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            watch.seconds.clear()
        samples, prompts = watch("images", encoded_prompts, policy, folder, case, step)
        policy.features.clear()
        with policy.autocast():
            watch("vision", image_features, policy, prompts)
        groups = watch("rollout", side.sample, samples, prompts, step)
        packed = watch("packed", packed_gradients, side, groups)
        plain = watch("plain", plain_gradients, side, groups)
        gap = max(gap, abs(packed / plain - 1))
        watch("update", side.update, groups)
    P, T, G = len(prompts[0].ids), case.max_tokens, case.group
    removed = G * (P + T) / (P + G * T)
    seconds = {name: median(values) for name, values in watch.seconds.items()}
    peak = matmul_peak(device, getattr(torch, precision))
    row = {
        "setting": case.name, "trained": choice.name, "P": P, "T": T, "G": G, "prompts": case.prompts,
        "phases": {
            name: {
                "seconds": seconds[name],
                "tokens_per_s": tokens / seconds[name],
                "peak_mb": watch.peak[name],
                "share_of_peak": flops / seconds[name] / peak if flops else None,
            }
            for name, tokens, flops in work_of(policy, case, P, T, G, choice.lora_rank)
        },
        "speed_up": seconds["plain"] / seconds["packed"], "removed_work": removed, "target": TARGET * removed,
        "gradient_gap": gap, "matmul_peak_tflops": peak / 1e12,
    }  # fmt: skip
    connection.send(row)


class Watch:
    """Wall seconds of every call of a phase, and the phase's peak memory (on a CPU that of the process so far)."""

    def __init__(self, device):
        self.device, self.seconds, self.peak = device, {}, {}

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
    from seethink.train.update import backward, batches

    config = side.config
    for rollout in (r for g in groups for r in g.rollouts):
        rollout.weight = 1 / (len(groups) * config.group * config.max_tokens)
    for batch in batches(groups, config.micro_tokens, []):
        backward(side.learner, batch, on_policy=True)
    return gradient_norm(side.learner.optimiser)


def gradient_norm(optimiser) -> float:
    """Norm of all gradients, which are cleared."""
    import torch

    norm = torch.nn.utils.get_total_norm([p.grad for p in optimiser.parameters if p.grad is not None])
    optimiser.adam.zero_grad(set_to_none=True)
    return float(norm)


def plain_gradients(side, groups) -> float:
    """The same, one row per completion, by transformers' own attention; all prompts and completions have one length."""
    import torch

    from seethink.train.batches import micro_batches
    from seethink.train.loss import Given, Objective, grpo_loss, head_loss, token_log_probs
    from seethink.train.model.lora import without_lora
    from seethink.train.model.pack import ATTENTION

    policy, reference, config = side.policy, side.learner.reference, side.config
    rows = [(g.prompt, r.completion.ids, r.advantage) for g in groups for r in g.trained]
    completions = len(groups) * config.group
    models = {id(m): m for m in (policy.model, reference)}.values()
    for model in models:
        model.model.language_model.set_attn_implementation("sdpa")
    head = policy.model.lm_head.weight
    for batch in micro_batches([len(p.ids) + len(c) for p, c, _ in rows], config.micro_tokens):
        prompts, ids, advantages = zip(*(rows[i] for i in batch), strict=True)
        targets = torch.cat(ids).to(policy.device)
        per_token = torch.tensor(advantages, device=policy.device).repeat_interleave(config.max_tokens)
        weights = torch.full_like(per_token, 1 / (completions * config.max_tokens))
        with policy.autocast():
            states = plain_states(policy, policy.model, prompts, ids)
            with torch.no_grad(), without_lora(reference):
                frozen = plain_states(policy, reference, prompts, ids)
                frozen = token_log_probs(frozen, reference.lm_head.weight, targets, policy.banned, config.temperature)

            def loss_of(x, at, frozen=frozen, per_token=per_token, weights=weights):
                given = Given(per_token, weights, reference=frozen).at(at)
                return grpo_loss(x, given, Objective(config.clip_low, config.clip_high, BETA))

            loss = head_loss(states, head, targets, policy.banned, config.temperature, loss_of).loss
        loss.backward()
    for model in models:
        model.model.language_model.set_attn_implementation(ATTENTION)
    return gradient_norm(side.learner.optimiser)


def plain_states(policy, model, prompts, completions):
    """Hidden states [R * T, hidden] that predict R completions, a whole row [P + T] for each."""
    import torch

    from seethink.train.model.policy import image_features

    device, T = policy.device, len(completions[0])
    ids = torch.stack([torch.cat([p.ids, c]) for p, c in zip(prompts, completions, strict=True)]).to(device)
    after = [(p.next_position + torch.arange(T)).expand(3, -1) for p in prompts]
    positions = torch.stack([torch.cat([p.positions, a], 1) for p, a in zip(prompts, after, strict=True)], 1).to(device)
    embeds = model.get_input_embeddings()(ids)
    slots = (ids == policy.image_token)[..., None].expand_as(embeds)
    embeds = embeds.masked_scatter(slots, image_features(policy, list(prompts))[:, 0].to(embeds.dtype))
    hidden = model.model.language_model(inputs_embeds=embeds, position_ids=positions, use_cache=False).last_hidden_state
    return hidden[:, -T - 1 : -1].flatten(0, 1)


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


def rows(size: str, device: str, steps: int, micro_tokens: int) -> list[dict]:
    """Every setting with LoRA and with all language weights, one process after the other."""
    context = multiprocessing.get_context("spawn")
    found = []
    for case in SETTINGS[size]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            call(context, prepare, folder, case, WARM_UP + steps, 0, device)
            for index in (0, 1):  # of step.CHOICES: LoRA, language
                here, there = context.Pipe(duplex=False)
                arguments = (there, folder, case, index, device, steps, micro_tokens)
                child = context.Process(target=measure, args=arguments)
                child.start()
                there.close()
                found.append(here.recv())
                child.join()
    return found


def table(found: list[dict]) -> str:
    """The results as Markdown."""
    lines = [
        "| setting | trained | phase | s | tokens/s | peak, MB | share of matmul peak |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in found:
        for name, p in r["phases"].items():
            share = f"{p['share_of_peak']:.0%}" if p["share_of_peak"] else ""
            start = f"| {r['setting']} (P={r['P']}, T={r['T']}, G={r['G']}) | {r['trained']} | {name} "
            lines.append(f"{start}| {p['seconds']:.3f} | {p['tokens_per_s']:,.0f} | {p['peak_mb']:,.0f} | {share} |")
    lines += ["", "| setting | trained | packed against plain | removed work | target |", "|---|---|---|---|---|"]
    for r in found:
        lines.append(
            f"| {r['setting']} | {r['trained']} | {r['speed_up']:.2f} | {r['removed_work']:.2f} | {r['target']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--size", default="3B", choices=list(SETTINGS))
    parser.add_argument("--steps", type=int, default=3, help="timed steps")
    parser.add_argument("--micro_tokens", type=int, default=8192, help="tokens computed at once, in both ways")
    parser.add_argument("--json", type=Path, help="write the results here")
    arguments = parser.parse_args()
    import torch

    on_gpu = arguments.device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        raise SystemExit("gpu.py: torch sees no CUDA device; --device cpu --size tiny shows that the code runs")
    if not on_gpu and arguments.size != "tiny":
        raise SystemExit("gpu.py: on a CPU only --size tiny")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    where = {
        **machine(),
        "device": torch.cuda.get_device_name() if on_gpu else "CPU",
        "date": time.strftime("%Y-%m-%d"),
    }
    found = rows(arguments.size, arguments.device, arguments.steps, arguments.micro_tokens)
    print(f"{where}\n\n{table(found)}")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(arguments.json, {"machine": where, "rows": found})


if __name__ == "__main__":
    main()
