"""Update and reference without sharing: one row per completion through transformers' own attention, in the place of packs."""

from __future__ import annotations

from contextlib import contextmanager

import torch
from work import BETA

from seethink.train.batches import micro_batches
from seethink.train.loss import Given, Objective, grpo_loss, head_loss, token_log_probs
from seethink.train.model.lora import without_lora
from seethink.train.model.pack import ATTENTION
from seethink.train.model.policy import image_features

PLAIN_TOKENS = 8192  # computed at once by transformers, which keep more of each


def gradient_norm(optimiser) -> float:
    """Norm of all gradients, which are cleared."""
    norm = torch.nn.utils.get_total_norm([p.grad for p in optimiser.parameters if p.grad is not None])
    optimiser.adam.zero_grad(set_to_none=True)
    return float(norm)


def plain_gradients(side, groups) -> float:
    """The same, one row per completion, by transformers' own attention; all prompts and completions have one length."""

    policy, reference, config = side.policy, side.learner.reference, side.config
    rows = [(g.prompt, r.completion.ids, r.advantage) for g in groups for r in g.trained]
    completions = len(groups) * config.group
    head = policy.model.lm_head.weight
    for batch in micro_batches([len(p.ids) + len(c) for p, c, _ in rows], min(config.micro_tokens, PLAIN_TOKENS)):
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
    return gradient_norm(side.learner.optimiser)


@contextmanager
def stock_attention(*models):
    """transformers' own; ours comes back also where memory ends."""

    try:
        for model in models:
            model.model.language_model.set_attn_implementation("sdpa")
        yield
    finally:
        for model in models:
            model.model.language_model.set_attn_implementation(ATTENTION)


def plain_states(policy, model, prompts, completions):
    """Hidden states [R * T, hidden] that predict R completions, a whole row [P + T] for each."""

    device, T = policy.device, len(completions[0])
    ids = torch.stack([torch.cat([p.ids, c]) for p, c in zip(prompts, completions, strict=True)]).to(device)
    after = [(p.next_position + torch.arange(T)).expand(3, -1) for p in prompts]
    positions = torch.stack([torch.cat([p.positions, a], 1) for p, a in zip(prompts, after, strict=True)], 1).to(device)
    embeds = model.get_input_embeddings()(ids)
    slots = (ids == policy.image_token)[..., None].expand_as(embeds)
    embeds = embeds.masked_scatter(slots, image_features(policy, list(prompts))[:, 0].to(embeds.dtype))
    hidden = model.model.language_model(inputs_embeds=embeds, position_ids=positions, use_cache=False).last_hidden_state
    return hidden[:, -T - 1 : -1].flatten(0, 1)
