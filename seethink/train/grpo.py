"""GRPO with the mixed reward: rollout, reward, advantage, update; this file is the algorithm.

    seethink grpo @configs/paper/grpo.toml --model.path Qwen2.5-VL-3B-Instruct --data rl.jsonl --out runs/grpo

Each round draws `prompts` prompts, samples `group` completions of each from the current policy, scores them, and makes one
optimiser step per `update_prompts` prompts. The first step of a round is strictly on-policy. Left out on purpose: a value
model, replay, several epochs over the same rollouts (the paper uses one inner epoch).
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice

import torch
from torch import Tensor

from seethink.core.errors import UserError
from seethink.core.nouns import Sample
from seethink.core.progress import progress
from seethink.core.run import Run, read_log
from seethink.core.store import load_samples
from seethink.core.tables import write_table
from seethink.rewards import RewardConfig, make_scorer, score_batch
from seethink.train import alarms
from seethink.train.config import GRPOConfig, system_prompt
from seethink.train.dist import Ranks, join
from seethink.train.group import Group, describe, rollout_rows, scorer_use
from seethink.train.loss import (
    LossParts,
    adapt_kl,
    group_advantages,
    grpo_loss,
    head_loss,
    token_log_probs,
    token_weights,
)
from seethink.train.model.lora import has_lora, without_lora
from seethink.train.model.pack import hidden_states, pack
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
from seethink.train.model.prefix import Prefix, continued_states
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
from seethink.train.rollout.engine import make_sampler
from seethink.train.rollout.importance import Correction, policy_log_probs
from seethink.train.rollout.sampler import Completion, Sampler, decode


def run(config: GRPOConfig, dry_run: bool = False) -> None:
    """The verb. Raises UserError for bad data, model or folder; the same call again resumes."""
    with join(config.device) as ranks:
        with ranks.together():
            samples = load_samples(config.data)
            if not samples:
                raise UserError("no samples", where=config.data, remedy="Give a JSONL file with at least one row")
            if config.reuse_prefill and config.model.checkpoint_layers:
                raise UserError(
                    "reuse_prefill and model.checkpoint_layers exclude each other: one keeps activations, the other drops them",
                    remedy="Choose one",
                )
        order = data_order(len(samples), config.rounds * config.prompts, config.seed)
        if dry_run:
            print(plan(config, samples))
            return
        with ranks.open(lambda: open_run(config, "grpo")) as folder:
            if not folder.done:
                train(folder, config, [samples[i] for i in order], ranks)
            if ranks.first:
                clear_up(folder)
        if ranks.first:
            print(f"grpo: {folder.path('model')}")


def plan(config: GRPOConfig, samples: list[Sample]) -> str:
    """What a run would do, in words."""
    rollouts = config.rounds * config.prompts * config.group
    return (
        f"{len(samples)} samples; {config.rounds} rounds x {config.prompts} prompts x {config.group} = {rollouts} rollouts of at most "
        f"{config.max_tokens} tokens; {config.rounds * -(-config.prompts // config.update_prompts)} optimiser steps"
    )


def train(folder: Run, config: GRPOConfig, samples: list[Sample], ranks: Ranks) -> None:
    """All rounds over `samples`, already in the order in which they are drawn; resumes from the latest checkpoint."""
    with ranks.together():
        policy = load_policy(config.model.path, ranks)
    make_trainable(policy, config.model, config.seed)
    reference = reference_model(policy) if config.kl > 0 else None
    ranks.shard(compute_dtype(config.model), policy.model, reference)
    updates = -(-config.prompts // config.update_prompts)
    optimiser = Optimiser(policy, config.optim, config.rounds * updates)
    start, beta = resume(folder, policy, optimiser, config.kl)
    sampler = make_sampler(policy, config, optimiser.step)
    uses: list[dict] = []  # of a local reward model, in this round
    scorer = make_scorer(reward_config(folder, config, ranks), log=lambda **use: uses.append(use))
    system = system_prompt(config.model)
    places = ranks.share_of_each(list(range(config.prompts)), config.update_prompts)
    with closing(scorer), progress("grpo", config.rounds, start, show=ranks.first) as bar:
        for step in range(start, config.rounds):
            began, cpu = time.perf_counter(), time.process_time()
            batch = [samples[step * config.prompts + place] for place in places]
            with ranks.together():
                prompts = [encode_prompt(policy, s, system, config.model.max_prompt_tokens) for s in batch]
                groups = explore(policy, sampler, config, batch, prompts, scorer, step, places)
            sampled = time.perf_counter()
            correction = None if sampler.exact else recall(policy, config, groups)
            metrics = improve(policy, reference, optimiser, config, groups, beta, sampler.kept, correction)
            beta = metrics.pop("next_kl_coefficient")
            groups = sorted(ranks.gather([g.without_pixels() for g in groups]), key=lambda g: g.place)
            metrics |= describe(groups) | scorer_use(ranks.gather(uses))
            uses.clear()
            metrics |= {"seconds": time.perf_counter() - began, "seconds/rollout": sampled - began}
            metrics["tokens_per_s"] = metrics["tokens/generated"] / metrics["seconds"]
            metrics["memory_gb"] = max(ranks.gather([peak_memory_gb(policy.device)]))
            metrics["cpu_seconds"] = sum(ranks.gather([time.process_time() - cpu]))
            folder.log(step + 1, **metrics)
            folder.write_rows("rollouts.jsonl", rollout_rows(step, groups, sampler.version))
            alarms.raise_new(folder, alarms.grpo(read_log(folder.path("metrics.jsonl"))), step + 1)
            if (step + 1) % config.save_every == 0 or step + 1 == config.rounds:
                save_checkpoint(
                    folder.path("checkpoint"), step + 1, {**optimiser.state(), "kl_coefficient": beta}, ranks
                )
            sampler.push(optimiser.step)
            bar.advance(text=f"reward {metrics['reward/mean']:.3f}  length {metrics['completion/length']:.0f}")
    sampler.close()
    finish(folder, policy, config, samples)


def explore(
    policy: Policy,
    sampler: Sampler,
    config: GRPOConfig,
    samples: list[Sample],
    prompts: list[EncodedPrompt],
    scorer,
    step: int,
    places: list[int],
) -> list[Group]:
    """Rollouts of this rank's part of a round, scored; undecided rewards leave their group."""
    # a function of the step and the first prompt here alone, so that a resume repeats it
    seed = (config.seed * 1_000_003 + step) * 1_009 + (places or [0])[0]
    with autocast(policy, config.model):
        completions = sampler.rollout(prompts, config.group, config.max_tokens, config.temperature, seed)
    sampler.sleep()  # a reward model may need the memory, the update will
    texts = [[decode(policy, c) for c in group] for group in completions]
    flat = score_batch(
        [s for s in samples for _ in range(config.group)], [t for group in texts for t in group], config.reward, scorer
    )
    groups = []
    for i, sample in enumerate(samples):
        rewards = flat[i * config.group : (i + 1) * config.group]
        advantages = group_advantages([r.value for r in rewards], config.std_norm)
        groups.append(Group(sample, prompts[i], completions[i], texts[i], rewards, advantages, places[i]))
    return groups


def recall(policy: Policy, config: GRPOConfig, groups: list[Group]) -> Correction:
    """What correcting for the engine needs: the policy's log-probabilities where the first update comes too early."""
    later = [g for g in groups if g.trained and g.place >= config.update_prompts]
    ids_BG = [[c.ids for c, _ in g.trained] for g in later]
    with autocast(policy, config.model):
        scored = policy_log_probs(policy, [g.prompt for g in later], ids_BG, config.temperature, config.micro_tokens)
    completions = [c for g in later for c, _ in g.trained]
    return Correction(config.sampler.importance_cap, {id(c): s for c, s in zip(completions, scored, strict=True)})


def improve(
    policy: Policy,
    reference,
    optimiser: Optimiser,
    config: GRPOConfig,
    groups: list[Group],
    beta: float,
    kept: list[Prefix] | None = None,
    correction: Correction | None = None,
) -> dict:
    """One optimiser step per `update_prompts` prompts; groups without spread are skipped but stay in the averages.

    `groups` are those of this rank. `kept` are prefixes of the first chunk's prompts with their graphs, from the rollout;
    they are used up.
    """
    ranks, idle = policy.ranks, idle_group(policy)
    total = {"loss": 0.0, "kl": 0.0, "clip_share": 0.0, "tokens/trained": 0}
    norm = rate = 0.0
    drawn = sum(ranks.gather([len(groups)]))
    for first in range(0, drawn, config.update_prompts):
        chunk = [g for g in groups if first <= g.place < first + config.update_prompts]
        lengths = [len(c.ids) for g in chunk for c in g.completions]
        weights = iter(token_weights(lengths, config.normalisation, config.max_tokens, ranks.gather(lengths)))
        weight_of = {id(c): next(weights) for g in chunk for c in g.completions} | {id(idle.completions[0]): 0.0}
        work = batches(chunk, config.micro_tokens, kept if first == 0 else None)
        for (part, prefix), real in ranks.even(work, ([idle], None)):
            parts = backward(
                policy, reference, config, part, weight_of, beta, first == 0, prefix, correction if real else None
            )
            for key, value in parts.items() if real else ():
                total[key] += value
        norm, rate = optimiser.update()
    total = ranks.sum(total)
    tokens = max(total["tokens/trained"], 1)
    kl = total["kl"] / tokens
    if reference is not None and config.kl_target > 0:
        beta = adapt_kl(beta, kl, config.kl_target, drawn * config.group, config.kl_horizon)
    return {
        **total, "kl": kl, "clip_share": total["clip_share"] / tokens, "grad_norm": norm, "lr": rate,
        "kl_coefficient": beta, "next_kl_coefficient": beta, **(correction.metrics(ranks) if correction else {}),
    }  # fmt: skip


def batches(chunk: list[Group], budget: int, kept: list[Prefix] | None) -> Iterator[tuple[list[Group], Prefix | None]]:
    """Micro-batches of a chunk: groups that train, within the token budget, or those of each kept prefix."""
    if not kept:
        active = [g for g in chunk if g.trained]
        for batch in micro_batches([g.tokens for g in active], budget):
            yield [active[i] for i in batch], None
        return
    groups = iter(chunk)
    while kept:  # a graph is freed as soon as it was used
        prefix = kept.pop(0)
        part = list(islice(groups, len(prefix)))
        if any(g.trained for g in part):
            yield part, prefix


def idle_group(policy: Policy) -> Group:
    """A group that a rank computes without weight while only others have work."""
    prompt = idle_prompt(policy)
    completion = Completion(prompt.ids, torch.zeros(1), torch.zeros(1), "stop")
    return Group(Sample("idle", "", (), "", "", "letter"), prompt, [completion], [""], [], [0.0], -1)


def backward(
    policy: Policy,
    reference,
    config: GRPOConfig,
    groups: list[Group],
    weight_of: dict[int, float],
    beta: float,
    on_policy: bool,
    prefix: Prefix | None = None,
    correction: Correction | None = None,
) -> dict:
    """Gradients of one micro-batch; sums over its tokens for the log. `prefix`: its prompts, already computed."""
    device = policy.device
    trained = [ca for g in groups for ca in g.trained]
    ids = [[c.ids for c, _ in g.trained] for g in groups]
    prompts = [g.prompt for g in groups if g.trained]
    packed = pack(prompts, [i for i in ids if i], policy.image_token).to(device)
    lengths = torch.tensor([len(c.ids) for c, _ in trained])

    def per_token(values: list[float]) -> Tensor:  # one value per completion -> [C]
        return torch.repeat_interleave(torch.tensor(values, dtype=torch.float32), lengths).to(device)

    def at_the_start() -> Tensor:
        features = image_features(policy, prompts) if vision_frozen(policy) else vision_features(reference, prompts)
        states = hidden_states(reference, packed, features)
        return token_log_probs(states, reference.lm_head.weight, packed.targets, policy.banned, config.temperature)

    def current() -> tuple[Tensor, dict[str, Tensor]]:
        if prefix is None:
            states = hidden_states(policy.model, packed, image_features(policy, prompts))
        else:
            states = continued_states(policy.model, prefix, [[i.to(device) for i in group] for group in ids])
        head = policy.model.lm_head.weight
        parts = head_loss(states, head, packed.targets, policy.banned, config.temperature, loss_of)
        return parts.loss, parts.per_token

    def loss_of(log_probs: Tensor, rows: slice) -> LossParts:
        old = log_probs.detach() if on_policy else before[rows]
        importance = None if correction is None else correction.weights(old, sampled[rows])
        kept = None if reference_log_probs is None else reference_log_probs[rows]
        clip = config.clip_low, config.clip_high
        return grpo_loss(log_probs, old, kept, advantages[rows], weights[rows], *clip, beta, importance)

    advantages = per_token([a for _, a in trained])
    weights = per_token([weight_of[id(c)] for c, _ in trained])
    sampled = torch.cat([c.log_probs for c, _ in trained]).to(device)
    before = sampled  # the policy's log-probabilities before the round's first update
    if correction and not on_policy:
        before = torch.cat([correction.recalled[id(c)] for c, _ in trained]).to(device)
    reference_log_probs = None
    with autocast(policy, config.model):
        if reference is not None:
            with torch.no_grad(), without_lora(reference):
                reference_log_probs = policy.ranks.forward(reference, at_the_start)
        loss, logged = policy.ranks.forward(policy.model, current)
    loss.backward()
    return {
        "loss": float(loss.detach()),
        **{name: float(values.sum()) for name, values in logged.items()},
        "tokens/trained": len(packed.targets),
    }


def reference_model(policy: Policy):
    """What the KL term holds on to: with LoRA the model itself, its adapters off; else a frozen copy of its weights.

    A frozen vision tower is shared, not copied.
    """
    if has_lora(policy.model):
        return policy.model
    shared = {id(policy.model.model.visual): policy.model.model.visual} if vision_frozen(policy) else {}
    return copy.deepcopy(policy.model, shared).requires_grad_(False)


def resume(folder: Run, policy: Policy, optimiser: Optimiser, beta: float) -> tuple[int, float]:
    """(rounds done, KL coefficient) from the latest checkpoint; logs written after it are forgotten."""
    blank = lambda: {**optimiser.blank(), "kl_coefficient": beta}  # noqa: E731
    found = load_checkpoint(folder.path("checkpoint"), policy.device, blank)
    step = 0
    if found:
        step, state = found
        beta = state.pop("kl_coefficient")
        optimiser.restore(state)
    with policy.ranks.together():
        folder.rewind(step)
    return step, beta


def reward_config(folder: Run, config: GRPOConfig, ranks: Ranks) -> RewardConfig:
    """The reward with a cache of scores in the run folder: a resumed run neither pays nor computes them again."""
    cache = config.reward.scorer_cache or folder.path(f"scores-{ranks.rank}.sqlite")
    return config.reward.model_copy(update={"scorer_cache": cache})


def finish(folder: Run, policy: Policy, config: GRPOConfig, samples: list[Sample]) -> None:
    """Final model, rollouts table and summary; the done-mark comes last."""
    save_policy(policy, folder.path("model"))
    if not policy.ranks.first:
        return
    raw = folder.path("rollouts.jsonl")
    write_table(
        folder.path("rollouts.parquet"), [json.loads(line) for line in raw.read_text(encoding="utf-8").splitlines()]
    )
    metrics = read_log(folder.path("metrics.jsonl"))
    folder.finish(
        rounds=config.rounds,
        rollouts=config.rounds * config.prompts * config.group,
        optimiser_steps=config.rounds * -(-config.prompts // config.update_prompts),
        prompts=config.rounds * config.prompts,
        tokens_generated=sum(m["tokens/generated"] for m in metrics),
        tokens_trained=sum(m["tokens/trained"] for m in metrics),
        seconds=sum(m["seconds"] for m in metrics),
        cpu_seconds=sum(m["cpu_seconds"] for m in metrics),
        memory_gb=max(m["memory_gb"] for m in metrics),
        data_order=order_hash([s.id for s in samples]),
    )


def clear_up(folder: Run) -> None:
    """What a finished run no longer needs; also when an earlier process was killed before it came to this."""
    folder.path("rollouts.jsonl").unlink(missing_ok=True)
    remove_checkpoints(folder.path("checkpoint"))
