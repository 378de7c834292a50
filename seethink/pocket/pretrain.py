"""Build the base checkpoint from nothing: see, look, talk, hurry; stopped early on purpose.

    seethink pocket pretrain --out base

see   image tokens come to resemble the words that describe them (language layers idle)
look  find one thing in small scenes; one attention head is told where to look
talk  all five kinds and two old skills, a third of it in the careful style; heads are told where a count looks
hurry the same, but most concise counts and equations are answered at a glance: like a model tuned to answer briefly

A finished base would leave GRPO nothing to find, so training ends early, and after the last lessons the base knows two ways to
count and to read a curve and prefers the worse one. Each stage is kept; `zero` is the model before it was hurried. Left out:
whatever a real pretraining needs (sharding, resuming, mixed data). The same seed and threads give the same weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from functools import partial
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

import torch
from jinja2 import Template
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerBase

from seethink.core.run import Run
from seethink.core.store import write_text
from seethink.pocket.config import PretrainConfig
from seethink.pocket.exam import Marks, Paper, examine, set_paper
from seethink.pocket.lessons import (
    IGNORE,
    STYLES,
    WORD_GROUPS,
    Gallery,
    Lesson,
    LessonBatch,
    draw_batch,
    draw_gallery,
    to_patches,
)
from seethink.pocket.model import Model, make_model
from seethink.pocket.questions import TASKS_OF_KIND
from seethink.pocket.tokens import make_tokenizer, save_side_files
from seethink.pocket.world import SMALL
from seethink.train.model.policy import compute_dtype

LOOK_WEIGHT = 0.3
SEEING = 0.3
"""Weight of the words of image tokens while the language layers learn."""
CAREFUL = 3
"""One batch in so many is in the careful style."""
FINDING = ("where",) * 8 + ("colour_at",) * 3 + ("shape_at",)
TALKING = (*("where", "count") * 4, *("subtract",) * 3, *("shape_right", "colour_at") * 2, "describe", "shape_at")


def run(config: PretrainConfig, dry_run: bool = False) -> dict[str, Any]:
    """A run folder with the checkpoint in `model/`, its card written from the marks of this very run; its summary."""
    if dry_run:
        steps = config.see_steps + config.look_steps + config.talk_steps + config.hurry_steps
        print(f"{steps} steps on {config.scenes} pictures -> {config.out / 'model'}")
        return {}
    with Run.open(config.out, "pocket pretrain", config, {}) as run:
        if run.done:
            return run.summary
        start = time.perf_counter(), time.process_time()
        model, marks = pretrain(config, run)
        minutes, core_minutes = (time.perf_counter() - start[0]) / 60, (time.process_time() - start[1]) / 60
        _keep(model, run, "model")
        spent = {"minutes": minutes, "core_minutes": core_minutes}
        write_card(run.path("model"), "card", config, parameters=model.num_parameters(), marks=marks, **spent)
        run.finish(**spent, **{style: {"mean": m.mean, **asdict(m)} for style, m in marks.items()})
        return run.summary


def write_card(folder: Path, name: str, config: PretrainConfig, **found: Any) -> None:
    """README.md of a kept model, rendered from what this run has measured."""
    template = Template((files("seethink.pocket") / f"{name}.md.j2").read_text(encoding="utf-8"), trim_blocks=True)
    write_text(folder / "README.md", template.render(config=config, kinds=TASKS_OF_KIND, **found).rstrip() + "\n")


def pretrain(config: PretrainConfig, run: Run) -> tuple[Model, dict[str, Marks]]:
    """The trained model and its marks per style on questions that decided nothing."""
    torch.set_num_threads(config.threads)
    rng, tokenizer = Random(f"pretrain-{config.seed}"), make_tokenizer()
    model = make_model(tokenizer, config.seed, config.size)
    if config.start:
        model = Model.from_pretrained(config.start, attn_implementation="eager", dtype=torch.float32)
    small, gallery = draw_gallery(rng, config.scenes // 6, SMALL), draw_gallery(rng, config.scenes, curves=0.3)
    groups = [torch.tensor(tokenizer.convert_tokens_to_ids(list(words))) for words in WORD_GROUPS]
    trial = set_paper(f"trial-{config.seed}", config.trial)

    def see(_: int, pictures: int = 48) -> dict[str, Tensor]:
        return {"see": word_loss(model, gallery, _pick(gallery, pictures, rng), groups)}

    def look(_: int) -> dict[str, Tensor]:
        lesson = Lesson("concise", rows=config.rows, tasks=FINDING, bare=0.0)
        return language_loss(model, small, draw_batch(small, tokenizer, rng, lesson))

    def talk(step: int, glance: float) -> dict[str, Tensor]:
        style = "concise" if step % CAREFUL else "careful"
        lesson = Lesson(style, rows=config.rows, tasks=TALKING, glance=glance)
        seen = SEEING * see(step, 16)["see"]  # else reading curves is forgotten
        return {**language_loss(model, gallery, draw_batch(gallery, tokenizer, rng, lesson)), "see": seen}

    def marked() -> dict[str, float]:
        return _trial(model, tokenizer, trial)

    _train(model, run, "see", see, config.see_steps, config.lr)
    _keep(model, run, "see")
    _train(model, run, "look", look, config.look_steps, config.lr)
    _keep(model, run, "look")
    talked = _train(model, run, "talk", partial(talk, glance=config.glance), config.talk_steps, config.lr, marked)
    _keep(model, run, "zero")
    if talked:
        write_card(run.path("zero"), "zero", config, trial=talked)
    _train(model, run, "hurry", partial(talk, glance=config.hurry), config.hurry_steps, config.lr / 2, marked)
    card = set_paper(f"card-{config.seed}", config.exam)
    return model, {style: examine(_round(model), tokenizer, card, style) for style in STYLES}


def _pick(gallery: Gallery, pictures: int, rng: Random) -> Tensor:
    """Indices of random pictures, more than half of them curves, which are harder to read."""
    curves = [i for i, scene in enumerate(gallery.scenes) if scene.curve]
    things = [i for i, scene in enumerate(gallery.scenes) if not scene.curve]
    drawn = min(round(0.58 * pictures), len(curves))
    return torch.tensor(rng.sample(curves, drawn) + rng.sample(things, pictures - drawn))


def _keep(model: Model, run: Run, stage: str) -> None:
    """The model of a stage as a plain folder, in bfloat16: half the size."""
    kept: Any = deepcopy(model)  # transformers declares `to` as if it took a model
    kept.to(torch.bfloat16).save_pretrained(run.path(stage))
    save_side_files(run.path(stage))


def _round(model: Model) -> Model:
    """The model with the weights that are kept, so that its marks are theirs."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.bfloat16())
    return model.eval()


def _train(
    model: Model,
    run: Run,
    stage: str,
    losses: Callable[[int], dict[str, Tensor]],
    steps: int,
    lr: float,
    trial: Callable[[], dict[str, float]] = dict,
) -> dict[str, float]:
    """AdamW over one stage: warm-up, then cosine to a tenth; fp32 weights, bf16 autocast where the processor has it.

    Returns the marks of its last trial."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    model.train()
    start, dtype, marks = time.perf_counter(), compute_dtype("auto", torch.device("cpu")), {}
    for step in range(1, steps + 1):
        done = step / steps
        rate = lr * min(1.0, step / 30) * (0.55 + 0.45 * math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
            parts = losses(step)
        optimizer.zero_grad()
        sum(parts.values(), torch.zeros(())).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0 or step == steps:
            values = {name: value.item() for name, value in parts.items()}
            left = (time.perf_counter() - start) * (steps - step) / step
            print(f"{stage} {step}/{steps}  {_short(values)}  {left:.0f} s left", flush=True)
            marks = trial() if step % 100 == 0 or step == steps else {}
            run.log(step, stage=stage, lr=rate, **values, **marks)
    return marks


def _trial(model: Model, tokenizer: PreTrainedTokenizerBase, paper: Paper) -> dict[str, float]:
    """Accuracy in between, in the concise style."""
    marks = examine(model.eval(), tokenizer, paper, "concise")
    model.train()
    print(f"  trial {marks.mean:.2f}  {_short(marks.accuracy)}", flush=True)
    return {"accuracy": marks.mean, **{f"accuracy/{kind}": value for kind, value in marks.accuracy.items()}}


def _short(values: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.2f}" for name, value in values.items())


def word_loss(model: Model, gallery: Gallery, index: Tensor, groups: list[Tensor]) -> Tensor:
    """Cross-entropy of the words that describe each image token, through the tied head, summed over word groups."""
    parts: Any = model  # modules do not declare their parts
    features = parts.model.language_model.norm(image_tokens(model, to_patches(gallery.pictures[index])))
    embedding = parts.get_input_embeddings().weight
    losses = []
    for group, ids in enumerate(groups):
        target = gallery.words[index, :, group].flatten()
        logits = (features.flatten(0, 1) @ embedding[ids].T).float()  # [B * 16, words of the group]
        losses.append(cross_entropy(logits, target, ignore_index=IGNORE))
    return torch.stack(losses).sum()


def image_tokens(model: Model, pixels: Tensor) -> Tensor:
    """[B, 64, 1176] patches -> [B, 16, hidden]."""
    grids = torch.tensor([[1, 8, 8]]).expand(len(pixels), -1)
    parts: Any = model.model  # modules do not declare their parts
    return torch.stack(tuple(parts.get_image_features(pixels.flatten(0, 1), grids, return_dict=True).pooler_output))


def language_loss(model: Model, gallery: Gallery, batch: LessonBatch) -> dict[str, Tensor]:
    """Mean next-token loss over completion tokens, and how far two attention heads are from where they should look.

    The second is a crutch for a small model with little time: told where to look, it learns to read within minutes;
    untold, it took longer to find the picture than everything else together. A head of layer 2 looks at what the next
    token is about; a head of layer 1 looks from the word of an option to its letter.
    """
    output = model(
        input_ids=batch.ids,
        attention_mask=batch.mask,
        position_ids=batch.positions,
        pixel_values=to_patches(gallery.pictures[batch.scene]).flatten(0, 1),
        image_grid_thw=torch.tensor([[1, 8, 8]]).expand(len(batch.scene), -1),
        use_cache=False,
        output_attentions=True,
    )
    labels, look = batch.labels[:, 1:], batch.look[:, 1:]
    losses = cross_entropy(
        output.logits[:, :-1].flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORE, reduction="none"
    )
    weights = batch.weight[:, 1:]
    words = (losses * weights.flatten()).sum() / weights.sum()
    first, second, third = output.attentions
    gaze = _gaze(second[:, 0, :-1], look) + _gaze(first[:, 0], batch.letter)
    count = _gaze(first[:, 1], batch.match) + _spread(third[:, 0], batch.tally)
    return {"words": words, "look": LOOK_WEIGHT * gaze, "count": LOOK_WEIGHT * count}


def _spread(attention: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of attention [B, T, S] to how it should lie [B, T, S], over tokens for which that is known."""
    known = target.sum(-1) > 0
    return -(target * (attention.float() + 1e-6).log()).sum() / known.sum().clamp(min=1)


def _gaze(attention: Tensor, target: Tensor) -> Tensor:
    """Mean -log attention [B, T, S] to the target place [B, T] of each token that has one; 0 where none has."""
    chosen = attention.float().gather(2, target.clamp(min=0)[..., None])[..., 0]
    known = target != IGNORE
    return -((chosen + 1e-6).log() * known).sum() / known.sum().clamp(min=1)
