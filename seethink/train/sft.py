"""SFT on reasoning traces, on a page: the loss of completions only, over packed examples.

Left out on purpose: loss on prompts, padding, attention between packed examples (the shared-prefix layout with one completion
a prompt has neither), several learning rates.

    seethink sft @paper/sft.toml --model.path Qwen2.5-VL-3B-Instruct --data sft.jsonl --out runs/sft

A step encodes the next `batch_size` examples and goes backward from their mean negative log-likelihood. A loss spike rolls the
weights back to the last good step and skips the batch: the paper had to repeat a run that collapsed that way (section 3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from seethink.core.errors import UserError
from seethink.core.nouns import Example
from seethink.core.preflight import write_drops
from seethink.core.progress import progress
from seethink.core.run import Run, read_log
from seethink.train import alarms, memory
from seethink.train.again import as_begun
from seethink.train.ahead import Ahead
from seethink.train.batches import data_order, micro_batches, order_hash
from seethink.train.card import say, write_card
from seethink.train.checkpoint import MARKS, Meter, clear, open_run, resume, row_marks, save_checkpoint
from seethink.train.config import SFTConfig, controls_in_words, rate_in_words
from seethink.train.dist import Ranks, join
from seethink.train.loss import LossParts, head_loss
from seethink.train.model.pack import hidden_states, pack
from seethink.train.model.policy import (
    EncodedPrompt,
    Policy,
    distribute,
    encode_completion,
    encode_prompt,
    idle_prompt,
    image_features,
    load_policy,
    make_trainable,
)
from seethink.train.model.rescore import rescore
from seethink.train.model.saving import save_adapters, save_policy
from seethink.train.needs import needs
from seethink.train.optimiser import Optimiser, refuse_moments
from seethink.train.preflight import blanked, check_data
from seethink.train.track import tracked
from seethink.train.watch import Watch, watch_summary

SNAPSHOT_EVERY = 10  # steps; a copy of weights and moments is kept in memory for rolling back


@dataclass(frozen=True)
class Encoded:
    """An example as token ids."""

    prompt: EncodedPrompt
    completion: Tensor

    @property
    def tokens(self) -> int:
        return len(self.prompt.ids) + len(self.completion)


def run(config: SFTConfig, dry_run: bool = False) -> dict[str, Any] | None:
    """The verb; of a dry run what it would take. Raises UserError for bad data, model or folder; the same call again resumes."""
    with join(config.device, 1 if dry_run else config.replicas, config.offload and not dry_run) as ranks:
        config = as_begun(config, ranks)
        with ranks.together():
            refuse_moments(config, ranks)
        examples, drops, warnings, longest = check_data(
            config, [config.model], ranks, completions=True, dry_run=dry_run
        )
        with ranks.together():
            train_set, eval_set = hold_out(examples, config)
            if not train_set:
                remedy = "Give more rows or a smaller eval_share"
                raise UserError("no examples to train on", where=config.data, remedy=remedy)
        draws = math.ceil(config.epochs * len(train_set))
        steps = math.ceil(config.epochs * len(train_set) / config.batch_size)
        if dry_run:
            print(
                f"{len(train_set)} examples, {len(eval_set)} held out; {config.epochs} epochs = {steps} steps of "
                f"{config.batch_size}; {rate_in_words(config)}{controls_in_words(config)}"
            )
            found = needs(config, longest, steps, draws * longest.row)
            print(found.words)
            return found._asdict()
        config = memory.fit_here(config, longest, ranks)
        order = data_order([e.sample.id for e in train_set], min(steps * config.batch_size, draws), config.seed)
        drawn = [train_set[i] for i in order]
        marks = lambda: row_marks(eval_set, drawn, config.batch_size)  # noqa: E731
        with ranks.open(lambda: open_run(config, "sft", "step", [e.sample for e in examples], marks)) as folder:
            write_drops(folder, drops)
            if not (whole := folder.done):
                alarms.raise_new(folder, warnings, None)
                drawn, eval_set = (blanked(part, config, ranks) for part in (drawn, eval_set))
                train(folder, config, drawn, eval_set, ranks)
            if ranks.first and not config.keep_state:
                clear(folder, MARKS)
            if ranks.first:
                print(f"sft: {'done before' if whole else 'finished'}, {folder.path('model')}")
                say(folder)


def hold_out(examples: list[Example], config: SFTConfig) -> tuple[list[Example], list[Example]]:
    """(training, evaluation) examples, split by the seed."""
    order = data_order([e.sample.id for e in examples], len(examples), config.seed + 1)
    held = set(order[: round(config.eval_share * len(examples))])
    return [e for i, e in enumerate(examples) if i not in held], [examples[i] for i in sorted(held)]


def train(folder: Run, config: SFTConfig, drawn: list[Example], eval_set: list[Example], ranks: Ranks) -> None:
    """All steps over `drawn`, the examples in the order in which they are drawn; resumes from the latest checkpoint."""
    with ranks.together():
        policy = load_policy(config.model, ranks)
    make_trainable(policy, config.model, config.seed)
    distribute(policy, seed=config.seed)
    steps = math.ceil(len(drawn) / config.batch_size)
    optimiser = Optimiser(policy, config.optim, steps)
    start, _ = resume(folder, optimiser)
    part_of = lambda step: ranks.share(drawn[step * config.batch_size : (step + 1) * config.batch_size])  # noqa: E731
    with (
        tracked(folder, config, start, ranks.first),
        Ahead(policy, lambda step: [e.sample for e in part_of(step)], config.workers) as ahead,
        Watch(folder, config, policy, steps) as watch,
        progress("sft", steps, start, show=ranks.first) as bar,
    ):
        watch.begin(start)
        rows = ranks.of_first(alarms.training_rows(read_log(folder.path("metrics.jsonl"))))
        good = optimiser.state_copy()  # weights whose loss was seen to be normal
        for step in range(start, steps):
            meter = Meter(ranks, policy.device)
            with ranks.together():
                batch = list(map(partial(encode, policy), part_of(step), ahead.take(step)))
            loss = backward(policy, batch, config.micro_tokens)
            metrics: dict[str, Any] = {}
            if spike := alarms.spiked(rows, loss, step + 1, config.spike_factor):
                optimiser.restore({**good, "step": optimiser.step})
                optimiser.skip()
                alarms.raise_new(folder, spike, step + 1)
            else:
                if step % SNAPSHOT_EVERY == 0:
                    good = optimiser.state_copy()
                metrics = learned(ranks, batch, loss, *optimiser.update(), meter)
            save = (step + 1) % config.save_every == 0 or step + 1 == steps
            if save:
                metrics["eval_loss"] = evaluate(policy, eval_set, config.micro_tokens)
            metrics |= watch.after(step + 1)
            if metrics:
                folder.log(step + 1, **metrics)
            if not spike:
                rows.append({"step": step + 1, **metrics})
                alarms.raise_new(folder, alarms.sft(rows), step + 1)
            if save:
                save_checkpoint(folder.path("checkpoint"), step + 1, optimiser.state(), ranks)
                good = optimiser.state_copy()  # as a resumed run would have it
            bar.advance(text=f"loss {loss:.3f}")
        spend = watch.spending()
    finish(folder, policy, config, drawn, spend)


def learned(
    ranks: Ranks, batch: list[Encoded], loss: float, norm: float, rate: float, meter: Meter
) -> dict[str, float]:
    """What is logged of an update. `tokens` are those of completions, `tokens_per_s` counts prompts as well."""
    seen, trained = (sum(ranks.gather(n)) for n in ([e.tokens for e in batch], [len(e.completion) for e in batch]))
    metrics = {"loss": loss, "grad_norm": norm, "lr": rate, "tokens": trained, **meter.metrics()}
    return {**metrics, "tokens_per_s": seen / metrics["seconds"]}


def encode(policy: Policy, example: Example, prompt: EncodedPrompt | None = None) -> Encoded:
    """An example, its prompt encoded already or not."""
    return Encoded(prompt or encode_prompt(policy, example.sample), encode_completion(policy, example.completion))


def backward(policy: Policy, batch: list[Encoded], budget: int, scale: float = 1.0) -> float:
    """Gradients of the mean negative log-likelihood over all completion tokens of the batch, times `scale`; returns that mean.

    `batch` is this rank's part; gradients and mean are those of all parts. At most `budget` tokens are computed at once. The
    likelihood is that of the whole vocabulary, as transformers has it: nothing is banned where nothing is sampled.
    """

    def weighted_nll(part: list[Encoded], weight: float) -> Tensor:
        prompts = [e.prompt for e in part]
        packed = pack(prompts, [[e.completion] for e in part], policy.image_token).to(policy.device)
        states, head = hidden_states(policy.model, packed, image_features(policy, prompts)), policy.model.lm_head.weight
        of_tokens = lambda log_probs, _: LossParts(-weight * log_probs.sum(), {})  # noqa: E731
        return head_loss(states, head, packed.targets, policy.banned[:0], 1.0, of_tokens).loss

    ranks, prompt = policy.ranks, idle_prompt(policy)
    total = sum(ranks.gather([len(e.completion) for e in batch]))
    loss = torch.zeros((), dtype=torch.float64, device=policy.device)  # read once: each look waits for the device
    parts = ([batch[i] for i in part] for part in micro_batches([e.tokens for e in batch], budget))
    for part, real in ranks.even(parts, [Encoded(prompt, prompt.ids)]):
        with policy.autocast():
            nll = ranks.forward(policy.model, partial(weighted_nll, part, real / total))
        (scale * nll).backward()
        loss += nll.detach()
    return sum(ranks.gather([float(loss)]))


def evaluate(policy: Policy, examples: list[Example], budget: int) -> float | None:
    """Mean loss per completion token of held-out examples; None without any."""
    with policy.ranks.together():
        encoded = [encode(policy, e) for e in policy.ranks.share(examples)]
    completions = [[e.completion] for e in encoded]
    scored = rescore(policy, [e.prompt for e in encoded], completions, 1.0, budget, policy.banned[:0])
    nll = -sum(float(x.sum()) for x in scored)
    tokens = sum(policy.ranks.gather([len(e.completion) for e in encoded]))
    return sum(policy.ranks.gather([nll])) / tokens if examples else None


def finish(folder: Run, policy: Policy, config: SFTConfig, drawn: list[Example], spend: list[dict[str, Any]]) -> None:
    """Final model and summary; the done-mark comes last. `spend`: what a judge of held-out answers cost on each rank."""
    save_policy(policy, folder.path("model"))
    save_adapters(policy, folder.path("adapter"))
    if not policy.ranks.first:
        return
    logged = read_log(folder.path("metrics.jsonl"))
    metrics = alarms.training_rows(logged)
    alarms.raise_new(folder, alarms.at_the_end(metrics), None)
    folder.finish(
        optimiser_steps=len(metrics),
        prompts=len(drawn),
        rollouts=0,
        tokens_generated=0,
        tokens_trained=sum(m["tokens"] for m in metrics),
        seconds=sum(m["seconds"] for m in metrics),
        cpu_seconds=sum(m["cpu_seconds"] for m in metrics),
        memory_gb=max((m["memory_gb"] for m in metrics), default=None),
        eval_loss=next((m["eval_loss"] for m in reversed(logged) if "eval_loss" in m), None),
        data_order=order_hash([e.sample.id for e in drawn]),
        spend=spend,
        **watch_summary(folder),
    )
    write_card(folder, config)
