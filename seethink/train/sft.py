"""SFT on reasoning traces: completion-only loss over packed examples.

    seethink sft @configs/paper/sft.toml --model.path Qwen2.5-VL-3B-Instruct --data sft.jsonl --out runs/sft

Examples are packed without cross-attention (the shared-prefix layout with one completion a prompt). A loss spike rolls the
weights back to the last good step and skips the batch: the paper had to repeat a run that collapsed that way (section 3).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from seethink.core.errors import UserError
from seethink.core.nouns import Example
from seethink.core.progress import progress
from seethink.core.run import Run, read_log
from seethink.core.store import load_examples
from seethink.train.alarms import spike
from seethink.train.config import ModelConfig, SFTConfig, system_prompt
from seethink.train.dist import Ranks, join
from seethink.train.loss import LossParts, head_loss, token_log_probs
from seethink.train.model.pack import hidden_states, pack
from seethink.train.model.policy import (
    EncodedPrompt,
    Policy,
    encode_completion,
    encode_prompt,
    idle_prompt,
    image_features,
    load_policy,
    make_trainable,
    save_policy,
)
from seethink.train.optim import (
    Optimiser,
    autocast,
    compute_dtype,
    data_order,
    load_checkpoint,
    micro_batches,
    open_run,
    order_hash,
    peak_memory_gb,
    remove_checkpoints,
    save_checkpoint,
)

SNAPSHOT_EVERY = 10  # steps; a copy of weights and moments is kept in memory for rolling back


@dataclass(frozen=True)
class Encoded:
    """An example as token ids."""

    prompt: EncodedPrompt
    completion: Tensor

    @property
    def tokens(self) -> int:
        return len(self.prompt.ids) + len(self.completion)


def run(config: SFTConfig, dry_run: bool = False) -> None:
    """The verb. Raises UserError for bad data, model or folder; the same call again resumes."""
    with join(config.device) as ranks:
        with ranks.together():
            train_set, eval_set = hold_out(load_examples(config.data)[: config.limit or None], config)
            if not train_set:
                remedy = "Give more rows or a smaller eval_share"
                raise UserError("no examples to train on", where=config.data, remedy=remedy)
        steps = math.ceil(config.epochs * len(train_set) / config.batch_size)
        if dry_run:
            print(
                f"{len(train_set)} examples, {len(eval_set)} held out; {config.epochs} epochs = {steps} steps of {config.batch_size}"
            )
            return
        with ranks.open(lambda: open_run(config, "sft")) as folder:
            if not folder.done:
                train(folder, config, train_set, eval_set, steps, ranks)
            if ranks.first:  # a killed process may have come to its end, but not to this
                remove_checkpoints(folder.path("checkpoint"))
        if ranks.first:
            print(f"sft: {folder.path('model')}")


def hold_out(examples: list[Example], config: SFTConfig) -> tuple[list[Example], list[Example]]:
    """(training, evaluation) examples, split by the seed."""
    order = data_order(len(examples), len(examples), config.seed + 1)
    held = set(order[: round(config.eval_share * len(examples))])
    return [e for i, e in enumerate(examples) if i not in held], [examples[i] for i in sorted(held)]


def train(
    folder: Run, config: SFTConfig, train_set: list[Example], eval_set: list[Example], steps: int, ranks: Ranks
) -> None:
    with ranks.together():
        policy = load_policy(config.model.path, ranks)
    make_trainable(policy, config.model, config.seed)
    ranks.shard(compute_dtype(config.model), policy.model)
    optimiser = Optimiser(policy, config.optim, steps)
    start = resume(folder, policy, optimiser)
    total = min(steps * config.batch_size, math.ceil(config.epochs * len(train_set)))
    order = data_order(len(train_set), total, config.seed)
    system = system_prompt(config.model)
    losses = ranks.of_first([r["loss"] for r in read_log(folder.path("metrics.jsonl"))])
    good = optimiser.state_copy()  # weights whose loss was seen to be normal
    with progress("sft", steps, start, show=ranks.first) as bar:
        for step in range(start, steps):
            began, cpu = time.perf_counter(), time.process_time()
            drawn = order[step * config.batch_size : (step + 1) * config.batch_size]
            with ranks.together():
                batch = [encode(policy, train_set[i], system, config.model) for i in ranks.share(drawn)]
            loss = imitate(policy, config, batch)
            losses.append(loss)
            if not math.isfinite(loss) or spike(losses, config.spike_factor):
                losses.pop()
                optimiser.restore({**good, "step": optimiser.step})
                optimiser.skip()
                folder.alarm(
                    f"loss_spike_{step + 1}",
                    f"loss {loss:.3f} at step {step + 1}: rolled back, batch skipped",
                    step + 1,
                )
                continue
            if step % SNAPSHOT_EVERY == 0:
                good = optimiser.state_copy()
            norm, rate = optimiser.update()
            seconds = time.perf_counter() - began
            metrics = {"loss": loss, "grad_norm": norm, "lr": rate}
            metrics["tokens"] = sum(ranks.gather([len(e.completion) for e in batch]))
            metrics |= {"tokens_per_s": sum(ranks.gather([e.tokens for e in batch])) / seconds, "seconds": seconds}
            metrics["memory_gb"] = max(ranks.gather([peak_memory_gb(policy.device)]))
            metrics["cpu_seconds"] = sum(ranks.gather([time.process_time() - cpu]))
            last = step + 1 == steps
            if (step + 1) % config.save_every == 0 or last:
                metrics["eval_loss"] = evaluate(policy, config, eval_set, system)
            folder.log(step + 1, **metrics)
            if (step + 1) % config.save_every == 0 or last:
                save_checkpoint(folder.path("checkpoint"), step + 1, optimiser.state(), ranks)
                good = optimiser.state_copy()  # as a resumed run would have it
            bar.advance(text=f"loss {loss:.3f}")
    finish(folder, policy, train_set, order)


def encode(policy: Policy, example: Example, system: str, config: ModelConfig) -> Encoded:
    prompt = encode_prompt(policy, example.sample, system, config.max_prompt_tokens)
    return Encoded(prompt, encode_completion(policy, example.completion))


def imitate(policy: Policy, config: SFTConfig, batch: list[Encoded]) -> float:
    """Gradients of the mean negative log-likelihood over all completion tokens of the batch; returns that mean.

    `batch` is this rank's part; gradients and mean are those of all parts.
    """
    total = sum(policy.ranks.gather([len(e.completion) for e in batch]))
    loss = 0.0
    for part, real in turns(policy, config, batch):
        nll = weighted_nll(policy, config, part, real / total)
        nll.backward()
        loss += float(nll.detach())
    return sum(policy.ranks.gather([loss]))


def turns(policy: Policy, config: SFTConfig, batch: list[Encoded]) -> Iterator[tuple[list[Encoded], bool]]:
    """(micro-batch, True), and (something to compute, False) while only other ranks have work."""
    prompt = idle_prompt(policy)
    indices = micro_batches([e.tokens for e in batch], config.micro_tokens)
    return policy.ranks.even(([batch[i] for i in part] for part in indices), [Encoded(prompt, prompt.ids)])


def weighted_nll(policy: Policy, config: SFTConfig, batch: list[Encoded], weight: float) -> Tensor:
    """`weight` times the negative log-likelihood of all completion tokens, to go backward from."""

    def loss_of(log_probs: Tensor, _: slice) -> LossParts:
        return LossParts(-weight * log_probs.sum(), {})

    def compute() -> Tensor:
        targets, states = predict(policy, batch)
        return head_loss(states, policy.model.lm_head.weight, targets, policy.banned, 1.0, loss_of).loss

    with autocast(policy, config.model):
        return policy.ranks.forward(policy.model, compute)


@torch.no_grad()
def negative_log_likelihood(policy: Policy, config: ModelConfig, batch: list[Encoded]) -> Tensor:
    """Of every completion token [C], example by example, nats."""

    def compute() -> Tensor:
        targets, states = predict(policy, batch)
        return -token_log_probs(states, policy.model.lm_head.weight, targets, policy.banned)

    with autocast(policy, config):
        return policy.ranks.forward(policy.model, compute)


def predict(policy: Policy, batch: list[Encoded]) -> tuple[Tensor, Tensor]:
    """Completion tokens [C] and the hidden states [C, hidden] that predict them."""
    prompts = [e.prompt for e in batch]
    packed = pack(prompts, [[e.completion] for e in batch], policy.image_token).to(policy.device)
    return packed.targets, hidden_states(policy.model, packed, image_features(policy, prompts))


@torch.no_grad()
def evaluate(policy: Policy, config: SFTConfig, examples: list[Example], system: str) -> float | None:
    """Mean loss per completion token of held-out examples; None without any."""
    with policy.ranks.together():
        encoded = [encode(policy, e, system, config.model) for e in policy.ranks.share(examples)]
    work = turns(policy, config, encoded)
    nll = sum(real * float(negative_log_likelihood(policy, config.model, part).sum()) for part, real in work)
    tokens = sum(policy.ranks.gather([len(e.completion) for e in encoded]))
    return sum(policy.ranks.gather([nll])) / tokens if examples else None


def resume(folder: Run, policy: Policy, optimiser: Optimiser) -> int:
    """Steps done, from the latest checkpoint; logs written after it are forgotten."""
    found = load_checkpoint(folder.path("checkpoint"), policy.device, optimiser.blank)
    step = 0
    if found:
        step, state = found
        optimiser.restore(state)
    with policy.ranks.together():
        folder.rewind(step)
    return step


def finish(folder: Run, policy: Policy, train_set: list[Example], order: list[int]) -> None:
    save_policy(policy, folder.path("model"))
    if not policy.ranks.first:
        return
    metrics = read_log(folder.path("metrics.jsonl"))
    folder.finish(
        optimiser_steps=len(metrics),
        prompts=len(order),
        rollouts=0,
        tokens_generated=0,
        tokens_trained=sum(m["tokens"] for m in metrics),
        seconds=sum(m["seconds"] for m in metrics),
        cpu_seconds=sum(m["cpu_seconds"] for m in metrics),
        memory_gb=max((m["memory_gb"] for m in metrics), default=None),
        eval_loss=next((m["eval_loss"] for m in reversed(metrics) if "eval_loss" in m), None),
        data_order=order_hash([train_set[i].sample.id for i in order]),
    )
