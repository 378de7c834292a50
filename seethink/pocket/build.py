"""`seethink pocket build`: the world as files, pictures, pools and a board, as a user's own data would come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from random import Random

from seethink.core.guard import refuse_foreign
from seethink.core.nouns import Example, Sample
from seethink.core.store import hash_file, hash_json, save_examples, save_samples
from seethink.core.tags import compose
from seethink.pocket.captions import write_caption
from seethink.pocket.config import SIZES, BuildConfig
from seethink.pocket.questions import KIND_OF_TASK, OLD_TASKS, TASKS_OF_KIND, answer, ask, phrase, read
from seethink.pocket.render import render
from seethink.pocket.teacher import PERSONAS, reason
from seethink.pocket.world import (
    IID,
    OOD,
    SIZE,
    UNSEEN_AS_HARD,
    Hardness,
    Scene,
    draw_curve,
    draw_things,
    scene_from_json,
    scene_to_json,
)

SOURCES = {
    "count": "clevr_math",
    "subtract": "clevr_math",
    "colour_at": "arxivqa",
    "shape_right": "arxivqa",
    "equation": "math_puma",
    "where": "coco",
    "describe": "allava_laion",
    **dict.fromkeys(OLD_TASKS, "old_skills"),
}
WITH_CONTEXT = {"clevr_math", "math_puma", "allava_laion"}
"""Sources that bring a text of their own, as in the paper, and need no captioner."""


DRAWING = ("world.py", "render.py", "questions.py", "build.py", "prompts/questions.txt", "prompts/unseen.txt")
"""Files of this package that decide what a world is."""


def hash_code(files: Iterable[str]) -> str:
    """Of files of this package: a change of the code makes anew what it had made."""
    return hash_json([hash_file(Path(__file__).parent / name) for name in files])


def draw_sample(
    stream: str, index: int, hardness: Hardness = IID, part: str = "", tasks: tuple[str, ...] = ()
) -> tuple[Sample, Scene]:
    """Sample `index` of a stream (a name that holds the seed), without its picture. The kinds take turns, or these tasks."""
    rng = Random(f"{stream}/{index}")
    kinds = tuple(TASKS_OF_KIND)
    turn = index if tasks else index // len(kinds)
    tasks = tasks or TASKS_OF_KIND[kinds[index % len(kinds)]]
    task = tasks[turn % len(tasks)]
    query = None
    while query is None:
        scene = draw_curve(rng, hardness) if task == "equation" else draw_things(rng, hardness)
        query = ask(scene, task, rng)
    source = SOURCES[task]
    meta = {"scene": scene_to_json(scene), "task": task, "image_size": [SIZE, SIZE], "coords": "pixel"}
    name = f"{stream}-{index:05d}"
    sample = Sample(
        id=name,
        source=source,
        images=(f"images/{name}.png",),
        question=phrase(query, rng, hardness.unseen),
        gold=answer(scene, query),
        kind=KIND_OF_TASK[task],
        choices=query.choices,
        context=write_caption(scene) if source in WITH_CONTEXT else "",
        licence="Apache-2.0",
        meta={**meta, "part": part} if part else meta,
    )
    return sample, scene


def draw_pool(
    out: Path, stream: str, count: int, hardness: Hardness = IID, part: str = "", tasks: tuple[str, ...] = ()
) -> Iterator[Sample]:
    """Samples of a stream; their pictures are written below `out`."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    for index in range(count):
        sample, scene = draw_sample(stream, index, hardness, part, tasks)
        path = out / sample.images[0]
        render(scene).save(path)
        yield replace(sample, images=(str(path),))


def run(config: BuildConfig, dry_run: bool = False) -> dict[str, int]:
    """The verb; rows of every file. Raises UserError for a folder of other files."""
    refuse_foreign(config.out, "sft_pool.jsonl")
    made = build(config.out, config.seed, dry_run, **config.sizes)
    for name, rows in made.items():
        print(f"{rows} rows -> {config.out / name}")
    return made


def build(out: Path, seed: int, dry_run: bool = False, **sizes: int) -> dict[str, int]:
    """Write the world below `out`; returns rows per file. Streams have names of their own, so seeds never meet.

    `sizes`: samples of sft, rl, board (as drawn for training), unseen (as hard, other curves and words), ood (harder), old;
    none where not given.
    """
    sizes = dict.fromkeys(SIZES, 0) | sizes
    parts = (("board", IID, "iid"), ("unseen", UNSEEN_AS_HARD, "unseen"), ("ood", OOD, "ood"))
    board = (draw_pool(out, f"{name}-{seed}", sizes[name], hardness, part) for name, hardness, part in parts)
    streams = {
        "sft_pool.jsonl": draw_pool(out, f"sft-{seed}", sizes["sft"]),
        "rl_pool.jsonl": draw_pool(out, f"rl-{seed}", sizes["rl"]),
        "board.jsonl": chain.from_iterable(board),
        "old.jsonl": draw_pool(out, f"old-{seed}", sizes["old"], part="old", tasks=OLD_TASKS),
    }
    if dry_run:
        on_board = sum(sizes[name] for name, _, _ in parts)
        return dict(zip(streams, (sizes["sft"], sizes["rl"], on_board, sizes["old"]), strict=True))
    pools = {name: list(stream) for name, stream in streams.items()}
    rows = {name: save_samples(out / name, samples) for name, samples in pools.items()}
    for model in PERSONAS:
        examples = simulated_examples(pools["sft_pool.jsonl"], model, seed)
        rows[f"sft-{model}.jsonl"] = save_examples(out / f"sft-{model}.jsonl", examples)
    return rows


def simulated_examples(samples: Iterable[Sample], model: str, seed: int) -> list[Example]:
    """What SFT eats, from a simulated teacher without the detour over HTTP; wrong and leaking traces are left out."""
    persona = replace(PERSONAS[model], leak=0.0, wrong_answer=0.0)
    examples = []
    for sample in samples:
        rng = Random(f"{seed}/{model}/{sample.id}")
        query = read(sample.question)
        assert query is not None  # a question of this world can be read back
        think, text = reason(scene_from_json(sample.meta["scene"]), query, persona, rng)
        if text == sample.gold:  # an unfaithful caption may lead astray
            examples.append(Example(sample, compose(think, text)))
    return examples
