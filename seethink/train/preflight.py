"""Before the first step: every row, picture and prompt of a data file looked at, all faults listed at once.

Prompts are counted from the sizes of their pictures, so no pixels are processed and no weights are loaded.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from seethink.core.errors import UserError
from seethink.core.images import image_size
from seethink.core.nouns import Drop, Example, Sample
from seethink.core.pictures import blank, exchanged_rows, not_shuffled, refuse_blind
from seethink.core.preflight import MANY, Sizes, check_pictures, settle
from seethink.core.progress import progress
from seethink.core.prompt import prompt_parts
from seethink.core.store import DataRow, read_examples
from seethink.core.tags import ANSWER, compose, extract
from seethink.rewards.box import frame_size
from seethink.rewards.check import check_gold
from seethink.train.config import GRPOConfig, JobConfig, ModelConfig, TrainingConfig, WatchConfig, system_prompt
from seethink.train.dist import Ranks
from seethink.train.model.parts import load_tools, render

BATCH = 256  # rows tokenised at once
SHAPE = 0.25  # by which the logarithms of two ratios of sides may differ: 3 to 4 and 4 to 3 are 0.58 apart


@dataclass(frozen=True, slots=True)
class Reader:
    """What turns a sample into token ids: a model folder without its weights."""

    tokenizer: Any
    image_processor: Any
    system: str
    image_token: int
    vocabulary: int
    """Rows of the embedding."""
    max_prompt_tokens: int


def load_reader(settings: ModelConfig, weights: bool = True) -> Reader:
    """Raises UserError for a folder that is no model; its weights may be missing where `weights` is False."""
    config, tokenizer, processor, system = load_tools(settings, weights)
    vocabulary = config.get("text_config", config)["vocab_size"]
    return Reader(tokenizer, processor, system, config["image_token_id"], vocabulary, settings.max_prompt_tokens)


class Length(NamedTuple):
    """Tokens of a row's prompt and completion, and where it is."""

    prompt: int
    completion: int
    place: str

    @property
    def total(self) -> int:
        return self.prompt + self.completion


class Longest(NamedTuple):
    """Tokens of the longest prompt, of the longest completion, and of the longest row."""

    prompt: int
    completion: int
    row: int


class Checked(NamedTuple):
    """Rows of a data file that can be used, in order, with the pictures that a control `shuffled` gives them."""

    examples: list[Example]
    drops: list[Drop]
    alarms: dict[str, str]
    """{alarm: sentence} of what keeps the control from being whole."""
    longest: Longest = Longest(0, 0, 0)
    """Tokens, by the first model; nothing on other ranks than the first."""


def check_data(
    config: JobConfig, models: Sequence[ModelConfig], ranks: Ranks, completions: bool = False, dry_run: bool = False
) -> Checked:
    """The sound rows of `config.data`. Raises UserError for bad ones unless they are to be left out, and for any held-out one.

    The first rank looks at pictures and lengths, all read the rows. For a dry run a model may still lack its weights.
    """
    images, kinds = (config.images, config.kinds) if isinstance(config, TrainingConfig) else ("own", ())
    with ranks.together():
        if isinstance(config, TrainingConfig):
            refuse_unwatched(config.watch)
        rows = of_kinds(read_examples(config.data, completions), kinds, config.data, say=ranks.first)
        rows = list(islice(rows, config.limit or None))
        readers = [load_reader(model, weights=not dry_run) for model in models]
    looked, sizes = check_pictures(rows) if ranks.first else (rows, {})
    own = _with_faults(rows, looked, ranks)
    rows = looked = (
        exchanged_rows(own, config.seed) if isinstance(config, TrainingConfig) and images == "shuffled" else own
    )
    longest = []
    for reader in readers if ranks.first else ():
        looked, most = check_lengths(looked, reader, sizes)
        longest.append(most)
    rows = _with_faults(rows, looked, ranks)
    with ranks.together():
        examples, drops = settle(rows, config.data, config.skip_bad, say=ranks.first)
        samples = [example.sample for example in examples]
        if images != "own":
            refuse_blind(samples, images)
    if completions and ranks.first:
        warn_of_tags(examples, config.data)
    if images == "own" and ranks.first:
        warn_of_frames([example.sample for example in examples], sizes, config.data)
    before = {row.read.sample.id: row.read.sample for row in own if isinstance(row.read, Example)}
    alarms = not_shuffled([before[s.id] for s in samples], samples) if images == "shuffled" else {}
    if isinstance(config, TrainingConfig) and config.watch.data:
        check_data(held_out_job(config), models, ranks, dry_run=dry_run)
    return Checked(examples, drops, alarms, longest[0] if longest else Longest(0, 0, 0))


def refuse_unwatched(watch: WatchConfig) -> None:
    """Raises UserError for settings of an evaluation that never happens."""
    others = [name for name, field in type(watch).model_fields.items() if getattr(watch, name) != field.default]
    if watch.data is None and others:
        what = f"watch.{others[0]} without watch.data changes nothing"
        raise UserError(what, remedy="Give --watch.data, a JSONL of held-out samples, or leave both out")


def held_out_job(config: TrainingConfig) -> TrainingConfig:
    """The settings that check the held-out rows: all of them as they are, and none is left out."""
    as_it_is = {"limit": 0, "skip_bad": False, "images": "own", "kinds": (), "watch": WatchConfig()}
    return config.model_copy(update={"data": config.watch.data, **as_it_is})


def _with_faults(rows: list[DataRow], looked: list[DataRow], ranks: Ranks) -> list[DataRow]:
    """The rows, with the faults that the first rank found by looking at them."""
    faults = ranks.of_first({i: row.read for i, row in enumerate(looked) if isinstance(row.read, UserError)})
    return [row._replace(read=faults.get(i, row.read)) for i, row in enumerate(rows)]


def of_kinds(rows: Iterator[DataRow], kinds: tuple[str, ...], path: Path, say: bool) -> Iterator[DataRow]:
    """Rows of these kinds (none: of all), and those whose kind cannot be read, which are faults. Raises UserError where
    none is left."""
    seen: set[str] = set()
    for row in rows:
        kind = row.read.sample.kind if isinstance(row.read, Example) else None
        seen.add(kind or "")
        if not kinds or kind is None or kind in kinds:
            yield row
    if kinds and not seen & {*kinds, ""}:
        what = f"no row is of kind {' or '.join(kinds)}"
        raise UserError(what, where=path, remedy=f"It has {', '.join(sorted(seen))}")
    if say and (absent := sorted({*kinds} - seen)):
        print(f"  ! {path} has no row of kind {', '.join(absent)}", file=sys.stderr)


def blanked(examples: list[Example], config: TrainingConfig, ranks: Ranks) -> list[Example]:
    """The examples as the control `images` blank shows them: grey pictures of their sizes, in the run folder."""
    if config.images != "blank":
        return examples
    samples = [e.sample for e in examples]
    with ranks.together():
        sizes = {path: image_size(path) for sample in samples for path in sample.images}
        shown = blank(samples, sizes, config.out) if ranks.first else []
    shown = shown or blank(samples, sizes, config.out)  # they are there now
    return [Example(sample, e.completion) for sample, e in zip(shown, examples, strict=True)]


def check_lengths(rows: list[DataRow], reader: Reader, sizes: Sizes) -> tuple[list[DataRow], Longest]:
    """The rows, a fault in the place of each that the model cannot take, and how long the longest are, which it says."""
    checked, lengths = [], []
    with progress("prompts", len(rows), show=len(rows) >= MANY) as bar:
        for at in range(0, len(rows), BATCH):
            part = rows[at : at + BATCH]
            sound = [row.read for row in part if isinstance(row.read, Example)]
            texts = [render(reader.tokenizer, reader.system, prompt_parts(e.sample)) for e in sound]
            prompts, completions = iter(_tokens(reader, texts)), iter(_tokens(reader, [e.completion for e in sound]))
            for row in part:
                if isinstance(row.read, Example):
                    length = _length(row, reader, next(prompts), next(completions), sizes)
                    lengths += [length] if isinstance(length, Length) else []
                    row = row._replace(read=length) if isinstance(length, UserError) else row
                checked.append(row)
            bar.advance(len(part))
    if lengths:
        longest = max(lengths, key=lambda length: length.total)
        print(f"longest of {len(lengths)} rows: {longest.prompt} + {longest.completion} tokens, {longest.place}")
    columns = [n.prompt for n in lengths], [n.completion for n in lengths], [n.total for n in lengths]
    return checked, Longest(*(max(numbers, default=0) for numbers in columns))


def warn_of_golds(samples: list[Sample], config: GRPOConfig) -> None:
    """Says how many golds the rewards cannot judge by: every rollout of such a row stays undecided."""
    bad = [(s.id, reason) for s in samples if (reason := check_gold(s, config.reward))]
    if bad:
        first = f"the first of {bad[0][0]!r}: {bad[0][1]}"
        what = f"{len(bad)} of {len(samples)} golds cannot be judged by, {first}"
        print(f"  ! {what}; see `seethink reward check {config.data}`", file=sys.stderr)


def warn_of_silence(samples: list[Sample], config: GRPOConfig) -> None:
    """Says where nobody tells the model of the tags in which its answer is looked for: untaught, it earns nothing."""
    if not system_prompt(config.model) and not any(ANSWER in sample.question for sample in samples):
        what = f"no system prompt, and no question names {ANSWER}: a model that was not taught the tags earns nothing"
        print(f"  ! {what}; --model.system @paper/system.txt asks for them", file=sys.stderr)


def warn_of_frames(samples: list[Sample], sizes: Sizes, path: Path) -> None:
    """Says how many boxes are declared in pixels of a size that has not the shape of the picture: mostly height before width."""
    bad = []
    for sample in samples if any(s.kind == "box" for s in samples) else []:
        for key in ("image_size", "gold_image_size"):
            frame = frame_size("pixel", sample.meta.get(key)) if sample.kind == "box" else None
            if frame and sample.images and not any(_alike(frame, sizes[image]) for image in sample.images):
                width, height = sizes[sample.images[0]]
                bad.append(f"{sample.id!r} with {key} {sample.meta[key]} for a picture of {width} x {height}")
    if bad:
        what = f"{len(bad)} sizes of boxes in {path} have not the shape of their picture (width, height)"
        print(f"  ! {what}, the first {bad[0]}", file=sys.stderr)


def _alike(frame: tuple[float, float], size: tuple[int, int]) -> bool:
    """Whether a box may have been measured on a picture of this shape, or on what a model makes of it (multiples of patches)."""
    return abs(math.log(frame[0] / frame[1] * size[1] / size[0])) < SHAPE


def warn_of_tags(examples: list[Example], path: Path) -> None:
    """Says how many completions hold no answer where rewards look for it: who imitates them earns nothing."""
    bare = [(e.sample.id, status) for e in examples if (status := extract(e.completion).status) != "ok"]
    if bare:
        what = f"{len(bare)} of {len(examples)} completions of {path} are not laid out as {compose('..', '..').replace(chr(10), ' ')}"
        print(f"  ! {what}, the first of {bare[0][0]!r}: {bare[0][1]}", file=sys.stderr)


def _length(row: DataRow, reader: Reader, prompt: list[int], completion: list[int], sizes: Sizes) -> Length | UserError:
    """Tokens of a row, or why its prompt or completion is not for this model."""
    assert isinstance(row.read, Example)
    images = row.read.sample.images
    if beyond := [i for i in (*prompt, *completion) if i >= reader.vocabulary]:
        word = reader.tokenizer.convert_ids_to_tokens(beyond[0])
        what = f"a text holds the token {word!r}, which the model has no embedding for"
        return UserError(what, remedy="Remove it, or add it to the model (resize_token_embeddings)")
    if prompt.count(reader.image_token) != len(images) or reader.image_token in completion:
        return UserError("a text holds image tokens", remedy="Remove them: images stand under 'images'")
    patches = [reader.image_processor.get_number_of_image_patches(h, w) for w, h in (sizes[i] for i in images)]
    tokens = len(prompt) + sum(n // reader.image_processor.merge_size**2 - 1 for n in patches)
    if reader.max_prompt_tokens and tokens > reader.max_prompt_tokens:
        size = f" ({sum(patches)} image patches)" if patches else ""
        what = f"prompt has {tokens} tokens{size}, more than {reader.max_prompt_tokens}"
        return UserError(what, remedy="Raise max_prompt_tokens, lower max_pixels or drop the row")
    return Length(tokens, len(completion), row.place)


def _tokens(reader: Reader, texts: list[str]) -> list[list[int]]:
    encode: Any = reader.tokenizer
    return encode(texts, add_special_tokens=False)["input_ids"] if texts else []
