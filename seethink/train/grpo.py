"""GRPO with the mixed reward, on a page.

Left out of GRPO on purpose: a value model, replay, several epochs over the same rollouts (the paper takes one), a format
reward (it is implicit: an answer that cannot be extracted earns nothing) and weights between kinds of reward.

    seethink grpo @configs/paper/grpo.toml --model.path Qwen2.5-VL-3B-Instruct --data rl.jsonl --out runs/grpo

A round takes the next `prompts` prompts through four functions:

    sample      `group` completions of each from the policy as it is        rollout/sampler.py
    score       every completion by the kind of its sample                  rewards/rewarder.py
    advantages  what each earned beyond its group                           advantage.py
    update      one optimiser step per `update_prompts` prompts             loss.py, over model/pack.py

The first update of a round is strictly on-policy; for the others the ratio starts at the policy before the first one.
Several processes split every optimiser step among them (dist.py); one process has nothing to split.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from seethink.core.errors import UserError
from seethink.core.nouns import Example, Reward, Sample
from seethink.core.preflight import write_drops
from seethink.core.progress import progress
from seethink.core.run import Run, read_log
from seethink.core.tables import write_table
from seethink.rewards import Rewarder
from seethink.train import alarms
from seethink.train.advantage import Group, Rollout, set_advantages
from seethink.train.batches import data_order, micro_batches, order_hash
from seethink.train.checkpoint import MARKS, Meter, clear, open_run, resume, row_marks, save_checkpoint
from seethink.train.config import GRPOConfig, rate_in_words
from seethink.train.dist import Ranks, join
from seethink.train.loss import (
    Given,
    LossParts,
    Objective,
    adapt_kl,
    grpo_loss,
    head_loss,
    token_log_probs,
    token_weights,
)
from seethink.train.metrics import describe, rollout_rows, visits
from seethink.train.model.lora import has_lora, without_lora
from seethink.train.model.pack import Pack, Prefix, continued_states, hidden_states, pack
from seethink.train.model.policy import (
    EncodedPrompt,
    Policy,
    encode_prompt,
    idle_prompt,
    image_features,
    load_policy,
    make_trainable,
    save_policy,
    vision_features,
    vision_frozen,
)
from seethink.train.model.rescore import rescore
from seethink.train.optimiser import Optimiser
from seethink.train.preflight import check_data, warn_of_golds
from seethink.train.rollout.engine import make_sampler, reuses_prefill
from seethink.train.rollout.sampler import Completion, Sampler, decode
from seethink.train.watch import Watch, watch_summary

UNSCORED = Reward(None, "unscored", "")


@dataclass
class Learner:
    """What the rounds of a run share. `beta` is the KL coefficient, which `update` adapts."""

    config: GRPOConfig
    policy: Policy
    reference: PreTrainedModel | None
    optimiser: Optimiser
    sampler: Sampler
    rewarder: Rewarder
    beta: float


def run(config: GRPOConfig, dry_run: bool = False) -> None:
    """The verb. Raises UserError for bad data, model or folder; the same call again resumes."""
    with join(config.device) as ranks:
        examples, drops = check_data(config, [config.model], ranks, lengths=not dry_run)
        samples = [example.sample for example in examples]
        if ranks.first:
            warn_of_golds(samples, config)
        with ranks.together():
            if not samples:
                raise UserError("no samples", where=config.data, remedy="Give a JSONL file with at least one row")
        if dry_run:
            print(plan(config, samples, ranks))
            return
        order = data_order([s.id for s in samples], config.rounds * config.prompts, config.seed)
        marks = lambda: row_marks([], [Example(samples[i], "") for i in order], config.prompts)  # noqa: E731
        with ranks.open(lambda: open_run(config, "grpo", "round", samples, marks)) as folder:
            write_drops(folder, drops)
            if not folder.done:
                alarms.raise_new(folder, alarms.before_grpo(config.prompts, len(samples)), None)
                train(folder, config, [samples[i] for i in order], ranks)
            if ranks.first:
                clear(folder, "rollouts.jsonl", MARKS)
                print(f"grpo: {folder.path('model')}")


def plan(config: GRPOConfig, samples: list[Sample], ranks: Ranks) -> str:
    """What a run would do, in words."""
    rollouts, steps = config.rounds * config.prompts * config.group, config.rounds * updates_of(config)
    local = config.sampler.engine == "local" and reuses_prefill(config, ranks)
    return (
        f"{len(samples)} samples; {config.rounds} rounds x {config.prompts} prompts x {config.group} = {rollouts} rollouts of at most "
        f"{config.max_tokens} tokens; {steps} optimiser steps, {rate_in_words(config)}; first updates train through the rollout's prefill: "
        f"{f'up to {config.micro_tokens} prompt tokens' if local else 'no'}"
    )


def updates_of(config: GRPOConfig) -> int:
    """Optimiser steps of a round."""
    return -(-config.prompts // config.update_prompts)


# ------------------------------------------------------------------------------------------------------------------- the loop


def train(folder: Run, config: GRPOConfig, samples: list[Sample], ranks: Ranks) -> None:
    """All rounds over `samples`, already in the order in which they are drawn; resumes from the latest checkpoint."""
    with ranks.together():
        policy = load_policy(config.model, ranks)
    make_trainable(policy, config.model, config.seed)
    reference = reference_model(policy) if config.kl > 0 else None
    ranks.shard(policy.dtype, policy.model, reference)
    optimiser = Optimiser(policy, config.optim, config.rounds * updates_of(config))
    start, kept = resume(folder, optimiser, kl_coefficient=config.kl)
    uses: list[dict[str, Any]] = []  # of a local reward model, in this round
    with ExitStack() as stack:
        rewarder = stack.enter_context(make_rewarder(folder, config, ranks, uses))
        watch = stack.enter_context(Watch(folder, config, policy, config.rounds, rewarder))
        watch.begin(start)  # before a sampler gathers the weights
        sampler = make_sampler(policy, config, optimiser.step)
        stack.callback(sampler.close)
        learner = Learner(config, policy, reference, optimiser, sampler, rewarder, kept["kl_coefficient"])
        places = ranks.share_of_each(list(range(config.prompts)), config.update_prompts)
        bar = stack.enter_context(progress("grpo", config.rounds, start, show=ranks.first))
        for number in range(start, config.rounds):
            meter = Meter(ranks, policy.device)
            uses.clear()
            with ranks.together():
                batch = {place: samples[number * config.prompts + place] for place in places}
                groups = sample(learner, batch, number)
                score(learner, groups)
            sampled = meter.seconds
            set_advantages(groups, config.std_norm)
            metrics = update(learner, groups)

            groups = sorted(ranks.gather([g.without_pixels() for g in groups]), key=lambda g: g.place)
            metrics |= describe(groups) | meter.metrics() | {"seconds/rollout": sampled}
            metrics |= visits(ranks.gather(uses), local=config.reward.open.scorer in ("model", "chat_model"))
            metrics["tokens_per_s"] = metrics["tokens/generated"] / metrics["seconds"]
            folder.log(number + 1, **metrics, **watch.after(number + 1))
            folder.write_rows("rollouts.jsonl", rollout_rows(number + 1, groups, sampler.version))
            alarms.raise_new(folder, alarms.grpo(read_log(folder.path("metrics.jsonl"))), number + 1)
            if (number + 1) % config.save_every == 0 or number + 1 == config.rounds:
                state = {**optimiser.state(), "kl_coefficient": learner.beta}
                save_checkpoint(folder.path("checkpoint"), number + 1, state, ranks)
            sampler.push(optimiser.step)
            reward = "undecided" if metrics["reward/mean"] is None else f"{metrics['reward/mean']:.3f}"
            bar.advance(text=f"reward {reward}  length {metrics['completion/length']:.0f}")
        spend = ranks.gather(rewarder.spending())
    finish(folder, policy, config, samples, spend)


def sample(learner: Learner, batch: dict[int, Sample], number: int) -> list[Group]:
    """Rollouts of this rank's part of a round: {place in the round: sample}."""
    config, policy, sampler = learner.config, learner.policy, learner.sampler
    prompts = [encode_prompt(policy, s) for s in batch.values()]
    # a function of the round and the first prompt here alone, so that a resume repeats it
    seed = (config.seed * 1_000_003 + number) * 1_009 + next(iter(batch), 0)
    completions = sampler.rollout(prompts, config.group, config.max_tokens, config.temperature, seed)
    sampler.sleep()  # a reward model may need the memory, the update will
    return [
        Group(of, prompt, place, [Rollout(c, decode(policy, c), UNSCORED, before=c.log_probs) for c in members])
        for (place, of), prompt, members in zip(batch.items(), prompts, completions, strict=True)
    ]


def score(learner: Learner, groups: list[Group]) -> None:
    """Give every rollout its reward. What cannot be decided stays without a value."""
    flat = [(group.sample, rollout) for group in groups for rollout in group.rollouts]
    rewards = learner.rewarder.score_batch([s for s, _ in flat], [r.text for _, r in flat])
    for (_, rollout), reward in zip(flat, rewards, strict=True):
        rollout.reward = reward


def update(learner: Learner, groups: list[Group]) -> dict[str, Any]:
    """One optimiser step per `update_prompts` prompts; groups without spread are skipped but stay in the averages.

    `groups` are those of this rank. Returns what is logged.
    """
    config, ranks, optimiser = learner.config, learner.policy.ranks, learner.optimiser
    remember(learner, groups)
    sums, gaps = {"loss": 0.0, "kl": 0.0, "clip_share": 0.0, "tokens/trained": 0, "tokens/reused": 0}, []
    idle, norm, rate = idle_batch(learner.policy), 0.0, 0.0
    drawn = sum(ranks.gather([len(groups)]))
    for first in range(0, drawn, config.update_prompts):
        chunk = [g for g in groups if first <= g.place < first + config.update_prompts]
        rollouts = [r for g in chunk for r in g.rollouts]
        lengths = [len(r.completion.ids) for r in rollouts]
        weights = token_weights(lengths, config.normalisation, config.max_tokens, ranks.gather(lengths))
        for rollout, weight in zip(rollouts, weights, strict=True):
            rollout.weight = weight
        work = batches(chunk, config.micro_tokens, learner.sampler.kept if first == 0 else [])
        for batch, real in ranks.even(work, idle):
            parts = backward(learner, batch, on_policy=first == 0)
            if real:
                tokens = parts.per_token
                sums["loss"] += float(parts.loss.detach())
                sums["kl"] += float(tokens["kl"].sum())
                sums["clip_share"] += float(tokens["clip_share"].sum())
                sums["tokens/trained"] += len(tokens["kl"])
                sums["tokens/reused"] += sum(len(g.prompt.ids) for g in batch.groups) if batch.prefix else 0
                gaps += [tokens["log_prob_gap"].cpu()] if "log_prob_gap" in tokens else []
        norm, rate = optimiser.update()
    sums = ranks.sum(sums)
    trained = max(sums["tokens/trained"], 1)
    kl = sums["kl"] / trained
    if learner.reference is not None and config.kl_target > 0:
        learner.beta = adapt_kl(learner.beta, kl, config.kl_target, drawn * config.group, config.kl_horizon)
    logged = {**sums, "kl": kl, "clip_share": sums["clip_share"] / trained, "grad_norm": norm, "lr": rate}
    return {**logged, "kl_coefficient": learner.beta, **engine_gap(learner, gaps)}


# --------------------------------------------------------------------------------------------------------- parts of the update


@dataclass(frozen=True)
class Batch:
    """Groups that are computed at once; `prefix`: their prompts, as the rollout computed them."""

    groups: list[Group]
    prefix: Prefix | None = None


def batches(chunk: list[Group], budget: int, kept: list[Prefix]) -> Iterator[Batch]:
    """The groups of a chunk that train: those of each kept prefix, which is used up, then the others within the budget."""
    groups = iter(chunk)
    while kept:  # a graph is freed as soon as it was used
        prefix = kept.pop(0)
        part = list(islice(groups, len(prefix)))
        if any(g.trained for g in part):
            yield Batch(part, prefix)
    active = [g for g in groups if g.trained]
    for part in micro_batches([g.tokens for g in active], budget):
        yield Batch([active[i] for i in part])


def backward(learner: Learner, batch: Batch, on_policy: bool) -> LossParts:
    """Gradients of one micro-batch; `on_policy`: no update lies between its rollouts and now."""
    policy, config, device = learner.policy, learner.config, learner.policy.device
    rollouts = [r for g in batch.groups for r in g.trained]
    prompts = [g.prompt for g in batch.groups if g.trained]
    ids_BG = [[r.completion.ids for r in g.trained] for g in batch.groups]
    packed = pack(prompts, [ids for ids in ids_BG if ids], policy.image_token).to(device)
    # [S] -> [C]: every token of a completion has its advantage and its weight
    lengths = torch.tensor([len(r.completion.ids) for r in rollouts])
    advantages, weights = (
        torch.repeat_interleave(torch.tensor(values, dtype=torch.float32), lengths).to(device)
        for values in ([r.advantage for r in rollouts], [r.weight for r in rollouts])
    )
    sampled = torch.cat([r.completion.log_probs for r in rollouts]).to(device)
    before = torch.cat([r.before for r in rollouts]).to(device)
    given = Given(
        advantages=advantages,
        weights=weights,
        old=None if on_policy else before,
        sampled=None if learner.sampler.exact else sampled,
        reference=reference_log_probs(learner, packed, prompts),
    )
    objective = Objective(config.clip_low, config.clip_high, learner.beta, config.sampler.importance_cap)

    def loss() -> tuple[Tensor, dict[str, Tensor]]:
        if batch.prefix is None:
            states = hidden_states(policy.model, packed, image_features(policy, prompts))
        else:
            states = continued_states(policy.model, batch.prefix, [[i.to(device) for i in ids] for ids in ids_BG])
        of_tokens = lambda log_probs, rows: grpo_loss(log_probs, given.at(rows), objective)  # noqa: E731
        head = policy.model.lm_head.weight
        parts = head_loss(states, head, packed.targets, policy.banned, config.temperature, of_tokens)
        return parts.loss, parts.per_token

    with policy.autocast():
        total, logged = policy.ranks.forward(policy.model, loss)
    total.backward()
    return LossParts(total.detach(), logged)


@torch.no_grad()
def reference_log_probs(learner: Learner, packed: Pack, prompts: list[EncodedPrompt]) -> Tensor | None:
    """[C] of the completion tokens of a pack under the reference model; None without one."""
    policy, reference = learner.policy, learner.reference
    if reference is None:
        return None

    def compute() -> Tensor:
        features = image_features(policy, prompts) if vision_frozen(policy) else vision_features(reference, prompts)
        states, head = hidden_states(reference, packed, features), reference.lm_head.weight
        return token_log_probs(states, head, packed.targets, policy.banned, learner.config.temperature)

    with policy.autocast(), without_lora(reference):
        return policy.ranks.forward(reference, compute)


def remember(learner: Learner, groups: list[Group]) -> None:
    """The policy's log-probabilities before the round's first update, where an engine sampled and that update comes too early."""
    if learner.sampler.exact:
        return
    config = learner.config
    later = [g for g in groups if g.trained and g.place >= config.update_prompts]
    ids_BG = [[r.completion.ids for r in g.trained] for g in later]
    prompts = [g.prompt for g in later]
    scored = rescore(learner.policy, prompts, ids_BG, config.temperature, config.micro_tokens)
    for rollout, log_probs in zip((r for g in later for r in g.trained), scored, strict=True):
        rollout.before = log_probs


def engine_gap(learner: Learner, gaps: list[Tensor]) -> dict[str, float]:
    """How far an engine's log-probabilities are from the policy's, over the tokens of all ranks."""
    if learner.sampler.exact:
        return {}
    gap, cap = torch.cat(learner.policy.ranks.gather(gaps) or [torch.zeros(1)]), learner.config.sampler.importance_cap
    return {
        "sampler/log_prob_gap": float(gap.abs().mean()),
        "sampler/log_prob_gap_max": float(gap.abs().max()),
        "sampler/capped_share": float((gap.exp() > cap).float().mean()),
    }


def idle_batch(policy: Policy) -> Batch:
    """What a rank computes without weight while only others have work."""
    prompt, nothing = idle_prompt(policy), torch.zeros(1)
    completion = Completion(prompt.ids, nothing, nothing, "stop")
    rollout = Rollout(completion, "", Reward(None, "idle", "open"), before=nothing, advantage=0.0)
    return Batch([Group(Sample("idle", "", (), "", "", "open"), prompt, -1, [rollout])])


# ------------------------------------------------------------------------------------------------------- before and after a run


def reference_model(policy: Policy) -> PreTrainedModel:
    """What the KL term holds on to: with LoRA the model itself, its adapters off; else a frozen copy of its weights.

    A frozen vision tower is shared, not copied.
    """
    if has_lora(policy.model):
        return policy.model
    shared = {id(policy.model.model.visual): policy.model.model.visual} if vision_frozen(policy) else {}
    return copy.deepcopy(policy.model, shared).requires_grad_(False)


def make_rewarder(folder: Run, config: GRPOConfig, ranks: Ranks, uses: list[dict[str, Any]]) -> Rewarder:
    """The reward with a cache of scores in the run folder: a resumed run neither pays nor computes them again."""
    return Rewarder(
        config.reward,
        scores=folder.path(f"scores-{ranks.rank}.sqlite"),
        ledger=folder.path(f"ledger-{ranks.rank}.sqlite"),
        log=lambda **use: uses.append(use),
    )


def finish(folder: Run, policy: Policy, config: GRPOConfig, samples: list[Sample], spend: list[dict[str, Any]]) -> None:
    """Final model, rollouts table and summary; the done-mark comes last. `spend`: what a judge cost on each rank."""
    save_policy(policy, folder.path("model"))
    if not policy.ranks.first:
        return
    write_table(folder.path("rollouts.parquet"), read_log(folder.path("rollouts.jsonl")))
    metrics = alarms.training_rows(read_log(folder.path("metrics.jsonl")))
    alarms.raise_new(folder, alarms.at_the_end(metrics), None)
    folder.finish(
        rounds=config.rounds,
        rollouts=config.rounds * config.prompts * config.group,
        optimiser_steps=config.rounds * updates_of(config),
        prompts=config.rounds * config.prompts,
        tokens_generated=sum(m["tokens/generated"] for m in metrics),
        tokens_trained=sum(m["tokens/trained"] for m in metrics),
        seconds=sum(m["seconds"] for m in metrics),
        cpu_seconds=sum(m["cpu_seconds"] for m in metrics),
        memory_gb=max(m["memory_gb"] for m in metrics),
        data_order=order_hash([s.id for s in samples]),
        spend=spend,
        **watch_summary(folder),
    )
