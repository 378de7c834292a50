"""The update of a round: one optimiser step per `update_prompts` prompts, over packed micro-batches, on any number of processes.

Each step minimises the GRPO loss of its rollouts (loss.py) and, where demonstrations are mixed in, their SFT loss beside it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from seethink.core.nouns import Reward, Sample
from seethink.rewards import Rewarder
from seethink.train.advantage import Group, Rollout
from seethink.train.batches import micro_batches
from seethink.train.config import GRPOConfig
from seethink.train.loss import (
    Given,
    LossParts,
    Objective,
    adapt_kl,
    grpo_loss,
    head_loss,
    of_tokens,
    token_weights,
)
from seethink.train.model.lora import has_lora, without_lora
from seethink.train.model.policy import (
    EncodedPrompt,
    Policy,
    idle_prompt,
    image_features,
    slim,
    vision_features,
    vision_frozen,
)
from seethink.train.model.prefix import Prefix
from seethink.train.model.rescore import rescore, score
from seethink.train.model.turns import Turn, Turns
from seethink.train.optimiser import Optimiser
from seethink.train.rollout.decoding import Completion
from seethink.train.rollout.sampler import Sampler
from seethink.train.sft import Encoded
from seethink.train.sft import backward as imitate


@dataclass
class Learner:
    """What the rounds of a run share. `beta` is the KL coefficient, which `update` adapts; `teacher` what is distilled from."""

    config: GRPOConfig
    policy: Policy
    reference: PreTrainedModel | None
    optimiser: Optimiser
    sampler: Sampler
    rewarder: Rewarder
    beta: float
    teacher: Policy | None = None


def update(learner: Learner, groups: list[Group], demos: Sequence[list[Encoded]] = ()) -> dict[str, Any]:
    """One optimiser step per `update_prompts` prompts; groups without spread are skipped but stay in the averages.

    `groups` are those of this rank, `demos` its demonstrations: for each of these steps, or for one step after them
    (`demos.apart`), or none. Returns what is logged.
    """
    config, ranks, optimiser = learner.config, learner.policy.ranks, learner.optimiser
    remember(learner, groups)
    imitated = []
    counts, gaps = {"tokens/trained": 0, "tokens/reused": 0}, []
    # loss, KL and clip share of all tokens, read once: each look waits for the device
    sums = torch.zeros(3, dtype=torch.float64, device=learner.policy.device)
    idle, norm, rate = idle_batch(learner.policy), 0.0, 0.0
    drawn = sum(ranks.gather([len(groups)]))
    for step, first in enumerate(range(0, drawn, config.update_prompts)):
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
                sums += torch.stack([parts.loss, tokens["kl"].sum(), tokens["clip_share"].sum()])
                counts["tokens/trained"] += len(tokens["kl"])
                counts["tokens/reused"] += sum(len(g.prompt.ids) for g in batch.groups) if batch.prefix else 0
                gaps += [tokens["log_prob_gap"]] if "log_prob_gap" in tokens else []
        if demos and not config.demos.apart:
            imitated.append(imitate(learner.policy, demos[step], config.micro_tokens, config.demos.weight))
        norm, rate = optimiser.update()
    totals = ranks.sum({**dict(zip(("loss", "kl", "clip_share"), sums.tolist(), strict=True)), **counts})
    trained = max(totals["tokens/trained"], 1)
    kl = totals["kl"] / trained
    if learner.reference is not None and config.kl_target > 0:
        learner.beta = adapt_kl(learner.beta, kl, config.kl_target, drawn * config.group, config.kl_horizon)
    logged = {**totals, "kl": kl, "clip_share": totals["clip_share"] / trained, "grad_norm": norm, "lr": rate}
    if demos and config.demos.apart:
        imitated.append(imitate(learner.policy, demos[0], config.micro_tokens))
        logged["demos/grad_norm"], _ = optimiser.update()
    if demos:
        logged["demos/loss"] = fmean(imitated)
        logged["demos/tokens"] = sum(ranks.gather([len(e.completion) for part in demos for e in part]))
    return {**logged, "kl_coefficient": learner.beta, **engine_gap(learner, gaps)}


# --------------------------------------------------------------------------------------------------------- parts of the update


@dataclass(frozen=True)
class Batch:
    """Groups that train together; `prefix`: their prompts, as the rollout computed them."""

    groups: list[Group]
    prefix: Prefix | None = None


def batches(chunk: list[Group], budget: int, kept: list[Prefix]) -> Iterator[Batch]:
    """The groups of a chunk that train: those of each kept prefix, which is used up, then the others within the budget.

    A single group over it has a batch of its own, computed in turns.
    """
    groups = iter(chunk)
    while kept:  # a graph is freed as soon as it was used
        prefix = kept.pop(0)
        part = list(islice(groups, len(prefix)))
        trained = [i for i, g in enumerate(part) if g.trained]
        if trained and len(trained) < len(part):
            prefix = prefix.keep(torch.tensor(trained, device=prefix.states.device))
        if trained:
            yield Batch([part[i] for i in trained], prefix)
    active = [g for g in groups if g.trained]
    for part in micro_batches([g.tokens for g in active], budget):
        yield Batch([active[i] for i in part])


def backward(learner: Learner, batch: Batch, on_policy: bool) -> LossParts:
    """Gradients of a batch; `on_policy`: no update lies between its rollouts and now."""
    policy, config, device = learner.policy, learner.config, learner.policy.device
    rollouts, prompts = [r for g in batch.groups for r in g.trained], [g.prompt for g in batch.groups]
    ids_BG = [[r.completion.ids for r in g.trained] for g in batch.groups]
    turns = Turns.of(policy, prompts, ids_BG, config.micro_tokens)
    # [S] -> [C]: every token of a completion has its advantage and its weight
    lengths = torch.tensor([len(r.completion.ids) for r in rollouts])
    weights = torch.repeat_interleave(torch.tensor([r.weight for r in rollouts]), lengths).to(device)
    advantages = torch.cat([r.advantages for r in rollouts]).to(device)
    sampled = torch.cat([r.completion.log_probs for r in rollouts]).to(device)
    before = torch.cat([r.before for r in rollouts]).to(device)
    given = Given(
        advantages=advantages,
        weights=weights,
        old=None if on_policy else before,
        sampled=None if learner.sampler.exact else sampled,
        reference=reference_log_probs(learner, turns, prompts),
    )
    objective = Objective(config.clip_low, config.clip_high, learner.beta, config.sampler.importance_cap)

    def loss_of(turn: Turn, states: Tensor) -> LossParts:
        own, head = given.at(turn.rows), policy.model.lm_head.weight
        if turn.idle:
            own = replace(own, weights=torch.zeros_like(own.weights))
        of_rows = lambda log_probs, rows: grpo_loss(log_probs, own.at(rows), objective)  # noqa: E731
        return head_loss(states, head, turn.targets, policy.banned, config.temperature, of_rows)

    parts = turns.backward(policy, partial(image_features, policy, prompts), batch.prefix, loss_of)
    return LossParts(torch.stack([p.loss for p in parts]).sum(), of_tokens(parts))


@torch.no_grad()
def reference_log_probs(learner: Learner, turns: Turns, prompts: list[EncodedPrompt]) -> Tensor | None:
    """[C] of the completion tokens of all turns under the reference model; None without one."""
    policy, reference = learner.policy, learner.reference
    if reference is None:
        return None
    frozen = vision_frozen(policy)
    see = partial(image_features, policy, prompts) if frozen else partial(vision_features, reference, prompts)
    with policy.autocast(), without_lora(reference):
        return score(policy.ranks, reference, turns, see, policy.banned, learner.config.temperature)


def remember(learner: Learner, groups: list[Group]) -> None:
    """The policy's log-probabilities before the round's first update, where an engine sampled and that update comes too early.

    A teacher has been compared with them already.
    """
    if learner.sampler.exact or learner.teacher:
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
    cap, everyones = learner.config.sampler.importance_cap, learner.policy.ranks.gather([g.cpu() for g in gaps])
    gap = torch.cat(everyones or [torch.zeros(1)])
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


def reference_model(policy: Policy) -> PreTrainedModel:
    """What the KL term holds on to: with LoRA the model itself, its adapters off; else a frozen copy of its weights.

    A frozen vision tower is shared, not copied. Of weights without memory the copy has none either (`distribute`).
    """
    if has_lora(policy.model):
        return policy.model
    shared = {id(policy.model.model.visual): policy.model.model.visual} if vision_frozen(policy) else {}
    reference = copy.deepcopy(policy.model, shared).requires_grad_(False)
    slim(policy, reference)
    return reference
