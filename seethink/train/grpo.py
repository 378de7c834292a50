"""GRPO with the mixed reward, on a page.

Left out of GRPO on purpose: a value model, replay, several epochs over the same rollouts (the paper takes one), a format
reward (it is implicit: an answer that cannot be extracted earns nothing) and weights between kinds of reward.

    seethink grpo @paper/grpo.toml --model.path Qwen2.5-VL-3B-Instruct --data rl.jsonl --out runs/grpo

A round takes the next `prompts` prompts through four functions:

    sample      `group` completions of each from the policy as it is        rollout/sampler.py
    score       every completion by the kind of its sample                  rewards/rewarder.py
    advantages  what each earned beyond its group                           advantage.py
    update      one optimiser step per `update_prompts` prompts             update.py: loss.py over model/pack.py

Two others may join: demonstrations, imitated in these optimiser steps or between rounds (demos.py), and a teacher, whose opinion of
every token is then the advantage (teacher.py). Controls: placebo rewards, blank or shuffled pictures, some kinds alone.

The first update of a round is strictly on-policy; for the others the ratio starts at the policy before the first one.
Several processes split every optimiser step among them (dist.py); one process has nothing to split.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from seethink.core.nouns import Example, Reward, Sample
from seethink.core.preflight import write_drops
from seethink.core.progress import progress
from seethink.core.run import Run, read_log
from seethink.core.tables import write_table
from seethink.rewards import Rewarder
from seethink.train import alarms, memory
from seethink.train.advantage import Group, Rollout, set_advantages
from seethink.train.again import as_begun
from seethink.train.ahead import Ahead
from seethink.train.batches import data_order, order_hash
from seethink.train.card import say, write_card
from seethink.train.checkpoint import MARKS, Meter, clear, open_run, resume, row_marks, save_checkpoint
from seethink.train.config import GRPOConfig, WatchConfig, controls_in_words, rate_in_words
from seethink.train.demos import Demos, draw_demos, optimiser_steps, refuse_ignored
from seethink.train.dist import Ranks, join
from seethink.train.metrics import describe, rewards_of, rollout_rows, visits
from seethink.train.model.policy import EncodedPrompt, Policy, distribute, load_policy, make_trainable
from seethink.train.model.saving import save_adapters, save_policy
from seethink.train.needs import needs
from seethink.train.optimiser import Optimiser, refuse_moments
from seethink.train.preflight import Checked, blanked, check_data, warn_of_golds, warn_of_silence
from seethink.train.rollout.engine import make_sampler, reuses_prefill
from seethink.train.rollout.sampler import decode
from seethink.train.sft import encode
from seethink.train.teacher import load_teacher, refuse_stranger, teach
from seethink.train.track import tracked
from seethink.train.update import Learner, reference_model, update
from seethink.train.watch import Watch, watch_summary

UNSCORED = Reward(None, "unscored", "")


def run(config: GRPOConfig, dry_run: bool = False) -> dict[str, Any] | None:
    """The verb; of a dry run what it would take. Raises UserError for bad data, model or folder; the same call again resumes."""
    with join(config.device, 1 if dry_run else config.replicas, config.offload and not dry_run) as ranks:
        with ranks.together():
            refuse_ignored(config)
            refuse_stranger(config)
            refuse_moments(config, ranks)
        config = as_begun(config, ranks)
        examples, drops, warnings, longest = check_data(config, [config.model], ranks, dry_run=dry_run)
        samples = [example.sample for example in examples]
        if ranks.first and not config.reward.placebo and not config.teacher:
            warn_of_golds(samples, config)
            warn_of_silence(samples, config)
        shown = Checked([], [], {})
        if config.demos.data:
            demonstrations = config.model_copy(update={"data": config.demos.data, "limit": 0, "watch": WatchConfig()})
            shown = check_data(demonstrations, [config.model], ranks, completions=True, dry_run=dry_run)
        if dry_run:
            print(plan(config, samples, shown.examples, ranks))
            tokens = config.rounds * config.prompts * config.group * config.max_tokens
            found = needs(config, longest, config.rounds, tokens)
            print(found.words)
            return found._asdict()
        config = memory.fit_here(config, longest, ranks)
        order = data_order([s.id for s in samples], config.rounds * config.prompts, config.seed)
        drawn = [Example(samples[i], "") for i in order]
        marks = lambda: row_marks(shown.examples, drawn, config.prompts)  # noqa: E731
        seen = [*samples, *(example.sample for example in shown.examples)]
        with ranks.open(lambda: open_run(config, "grpo", "round", seen, marks)) as folder:
            write_drops(folder, drops + shown.drops)
            if not (whole := folder.done):
                before = alarms.before_grpo(config.prompts, len(samples)) | warnings | shown.alarms
                alarms.raise_new(folder, before, None)
                demos = draw_demos(blanked(shown.examples, config, ranks), config)
                train(folder, config, [e.sample for e in blanked(drawn, config, ranks)], demos, ranks)
            if ranks.first and not config.keep_state:
                clear(folder, "rollouts.jsonl", MARKS)
            if ranks.first:
                print(f"grpo: {'done before' if whole else 'finished'}, {folder.path('model')}")
                say(folder)


def plan(config: GRPOConfig, samples: list[Sample], demos: list[Example], ranks: Ranks) -> str:
    """What a run would do, in words."""
    rollouts, steps = config.rounds * config.prompts * config.group, optimiser_steps(config)
    demos_of = config.demos
    way = f"{demos_of.batch} in {'a step apart' if demos_of.apart else 'each step'} of every"
    way += " round" if demos_of.every == 1 else f" {demos_of.every} rounds"
    alone = config.gpus < 2 and not config.offload  # as the run would be
    local = alone and config.sampler.engine == "local" and reuses_prefill(config, ranks)
    return (
        f"{len(samples)} samples; {config.rounds} rounds x {config.prompts} prompts x {config.group} = {rollouts} rollouts of at most "
        f"{config.max_tokens} tokens; {steps} optimiser steps, {rate_in_words(config)}; first updates train through the rollout's prefill: "
        f"{f'up to {config.micro_tokens} prompt tokens' if local else 'no'}"
        f"{f'; rewards are a placebo ({config.reward.placebo})' if config.reward.placebo else ''}"
        f"{f'; advantages from {config.teacher}' if config.teacher else ''}"
        f"{f'; {len(demos)} demonstrations, {way}' if demos else ''}"
        f"{controls_in_words(config)}"
    )


# ------------------------------------------------------------------------------------------------------------------- the loop


def train(folder: Run, config: GRPOConfig, samples: list[Sample], demos: Demos, ranks: Ranks) -> None:
    """All rounds over `samples`, already in the order in which they are drawn; resumes from the latest checkpoint."""
    with ranks.together():
        policy, teacher = load_policy(config.model, ranks), load_teacher(config, ranks)
    make_trainable(policy, config.model, config.seed)
    reference = reference_model(policy) if config.kl > 0 else None
    distribute(policy, reference, config.seed)
    if teacher:
        distribute(teacher)
    optimiser = Optimiser(policy, config.optim, optimiser_steps(config))
    start, kept = resume(folder, optimiser, kl_coefficient=config.kl)
    uses: list[dict[str, Any]] = []  # of a local reward model, in this round
    with ExitStack() as stack:
        rewarder = stack.enter_context(make_rewarder(folder, config, ranks, uses))
        stack.enter_context(tracked(folder, config, start, ranks.first))
        watch = stack.enter_context(Watch(folder, config, policy, config.rounds, rewarder))
        watch.begin(start)  # before a sampler gathers the weights
        sampler = make_sampler(policy, config, optimiser.step)
        stack.callback(sampler.close)
        learner = Learner(config, policy, reference, optimiser, sampler, rewarder, kept["kl_coefficient"], teacher)
        places = ranks.share_of_each(list(range(config.prompts)), config.update_prompts)
        samples_of = lambda number: [samples[i] for p in places if (i := number * config.prompts + p) < len(samples)]  # noqa: E731
        ahead = stack.enter_context(Ahead(policy, samples_of, config.workers))
        bar = stack.enter_context(progress("grpo", config.rounds, start, show=ranks.first))
        for number in range(start, config.rounds):
            meter = Meter(ranks, policy.device)
            uses.clear()
            with ranks.together():
                batch = dict(zip(places, samples_of(number), strict=True))
                groups = sample(learner, batch, ahead.take(number), number)
                score(learner, groups)
                imitated = [[encode(policy, e) for e in ranks.share(part)] for part in demos.of_round(number)]
            sampled = meter.seconds
            if teacher:
                teach(policy, teacher, groups, config, sampler.exact)
            else:
                set_advantages(groups, config.std_norm, config.mask_cut)
            metrics = update(learner, groups, imitated)

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
    finish(folder, policy, config, samples, demos, spend)


def sample(learner: Learner, batch: dict[int, Sample], prompts: list[EncodedPrompt], number: int) -> list[Group]:
    """Rollouts of this rank's part of a round: {place in the round: sample}, and their prompts."""
    config, policy, sampler = learner.config, learner.policy, learner.sampler
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


# ------------------------------------------------------------------------------------------------------- before and after a run


def make_rewarder(folder: Run, config: GRPOConfig, ranks: Ranks, uses: list[dict[str, Any]]) -> Rewarder:
    """The reward with a cache of scores in the run folder: a resumed run neither pays nor computes them again."""
    return Rewarder(
        config.reward,
        scores=folder.path(f"scores-{ranks.rank}.sqlite"),
        ledger=folder.path(f"ledger-{ranks.rank}.sqlite"),
        log=lambda **use: uses.append(use),
    )


def finish(
    folder: Run, policy: Policy, config: GRPOConfig, samples: list[Sample], demos: Demos, spend: list[dict[str, Any]]
) -> None:
    """Final model, rollouts table and summary; the done-mark comes last. `spend`: what a judge cost on each rank."""
    save_policy(policy, folder.path("model"))
    save_adapters(policy, folder.path("adapter"))
    if not policy.ranks.first:
        return
    rollouts = read_log(folder.path("rollouts.jsonl"))
    write_table(folder.path("rollouts.parquet"), rollouts)
    metrics = alarms.training_rows(read_log(folder.path("metrics.jsonl")))
    alarms.raise_new(folder, alarms.at_the_end(metrics), None)
    folder.finish(
        rounds=config.rounds,
        rollouts=config.rounds * config.prompts * config.group,
        optimiser_steps=optimiser_steps(config),
        prompts=config.rounds * config.prompts,
        tokens_generated=sum(m["tokens/generated"] for m in metrics),
        tokens_trained=sum(m["tokens/trained"] + m.get("demos/tokens", 0) for m in metrics),
        entropy_before=metrics[0]["entropy"],
        reward_first=rewards_of(rollouts, 1),
        reward_last=rewards_of(rollouts, config.rounds),
        demonstrations=len(demos.drawn),
        placebo=config.reward.placebo,
        seconds=sum(m["seconds"] for m in metrics),
        cpu_seconds=sum(m["cpu_seconds"] for m in metrics),
        memory_gb=max(m["memory_gb"] for m in metrics),
        data_order=order_hash([s.id for s in samples]),
        spend=spend,
        **watch_summary(folder),
    )
    write_card(folder, config)
