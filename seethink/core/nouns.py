"""The nouns. Data flows Sample -> Trace -> Verdict -> Example -> Score, and nothing flows back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from seethink.core import fields as read
from seethink.core.errors import UserError

Kind = Literal["digit", "choice", "math", "box", "open"]
KINDS: tuple[Kind, ...] = get_args(Kind)
KIND_ALIASES = {"mcq": "choice", "iou": "box"}  # the paper's names


@dataclass(frozen=True, slots=True)
class Sample:
    """One question about one or more images, with its gold answer."""

    id: str
    """Unique within a data set."""
    source: str
    """Data set it came from, e.g. clevr_math."""
    images: tuple[str, ...]
    """Image files, absolute or relative to the file the sample was read from; may be empty."""
    question: str
    gold: str
    """Reference answer as text, whatever the kind."""
    kind: Kind
    """Which of the five rewards scores it."""
    choices: tuple[str, ...] = ()
    """Option texts in order A, B, C, ... of a choice question."""
    context: str = ""
    """What the source knows beyond the image (scene text, textual problem), for the captioner."""
    licence: str = ""
    meta: dict[str, Any] = field(default_factory=dict)
    """Free: coords, image_size, gold_coords, gold_image_size of boxes; scene of the pocket world; part of a board."""
    alternatives: tuple[str, ...] = ()
    """Other reference answers, as right as `gold`."""
    places: tuple[int, ...] = ()
    """Where in `question` each image stands, as offsets; none: all images before it."""

    def __post_init__(self) -> None:
        """Lists become tuples. Raises UserError for what a row may hold and a sample may not: it would be read in another sense."""
        for name in ("images", "choices", "alternatives", "places"):
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))
            elif not isinstance(value, tuple):  # a text is a sequence too, of letters
                what = f"{name} of a Sample is a {type(value).__name__}"
                raise UserError(what, remedy=f"Write a tuple, as {name}=(...,)")
        texts = {"id": (self.id,), "question": (self.question,), "gold": (self.gold,), "kind": (self.kind,)}
        for name, values in {**texts, "choices": self.choices, "alternatives": self.alternatives}.items():
            if wrong := [value for value in values if not isinstance(value, str)]:
                what = f"{name} of a Sample holds a {type(wrong[0]).__name__}"
                raise UserError(what, remedy="Write texts: numbers as '2', further right answers as alternatives")
        if self.kind not in KINDS:
            raise UserError(f"kind of a Sample is {self.kind!r}", remedy=f"Use one of {', '.join(KINDS)}")

    @property
    def golds(self) -> tuple[str, ...]:
        """Every right answer."""
        return (self.gold, *self.alternatives)


def by_gold(sample: Sample) -> list[Sample]:
    """The sample once for each of its golds, each alone."""
    return [replace(sample, gold=g, alternatives=()) for g in sample.golds] if sample.alternatives else [sample]


@dataclass(frozen=True, slots=True)
class Trace:
    """What a model wrote about one sample: a teacher's distillation, a rollout or an evaluation."""

    sample_id: str
    model: str
    text: str
    """The whole completion, tags included."""
    stop: Literal["stop", "length", "error"] = "stop"
    """Why generation ended; `length` means that it was cut."""
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Yes, no or undecided, by whom and why."""

    ok: bool | None
    by: str
    """`rule`, the name of a scorer or of a judge's model, or `endpoint` where there was nothing to judge."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Drop:
    """A sample that left the pipeline. Kept + dropped = input, always."""

    sample_id: str
    source: str
    step: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """What SFT eats: a sample and the completion to imitate."""

    sample: Sample
    completion: str


@dataclass(frozen=True, slots=True)
class Reward:
    """A score that explains itself.

    value    in [0, 1]; None where it cannot be decided (status says why), never a silent 0
    status   ok, no_format, no_answer, ambiguous, malformed, too_long, timeout, scorer_error, custom_error, undecided, gold_error, placebo
    """

    value: float | None
    status: str
    kind: str
    answer: str | None = None
    """The answer as it was read from the response."""
    detail: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Score:
    """One graded answer to an item of a board, as it is written to scores.parquet."""

    board: str
    part: str
    """Subject, split or skill, as the board names it; `all` where it names none."""
    sample_id: str
    kind: str
    ok: bool | None
    """None: undecided; never counted as wrong without saying so."""
    reward: float | None
    """Credit in [0, 1] on boards of ours, None elsewhere and where undecided."""
    status: str
    """right, wrong, unparsed (no answer could be read) or judge_failed (a judge gave no usable reply)."""
    answer: str | None
    """As it was read from the response."""
    text: str
    """The whole response."""
    stop: str
    tokens: int
    seconds: float
    reason: str = ""
    """Why it is undecided, or what was wrong: no_response, truncated, refusal, no_format, ..."""
    decided_by: str = ""
    """The rung that decided, a judge by its model."""
    scored: str | None = None
    """The part of the response that was scored; None: all of it."""
    level: str = ""
    cluster: str = ""
    """Items that belong together: variants of one question, steps of one problem; empty: independent."""
    draw: int = 0
    """Which of the k answers to this item."""
    entropy: float | None = None
    """Nats per token of the model's distribution at the answer's own tokens; None where not asked for (`against`)."""
    kl: float | None = None
    """KL(model || the model it was scored against) at the same tokens, nats per token."""


def kind_of(name: str, where: object = "") -> Kind:
    """Canonical kind for a name or alias in any case. Raises UserError for anything else."""
    canonical = KIND_ALIASES.get(name.strip().lower(), name.strip().lower())
    if canonical not in KINDS:
        what = f"unknown reward kind {name[: read.MAX_SHOWN]!r}"
        raise UserError(what, where=where, remedy=f"Use one of {', '.join(KINDS)}")
    return KINDS[KINDS.index(canonical)]


KEYS = (
    "id", "source", "images", "image", "question", "gold", "alternatives", "kind", "choices", "context", "licence", "meta",
    "completion",
)  # fmt: skip
"""What a row may hold; anything else goes to `meta`."""


def sample_from_row(row: dict[str, Any], where: object = "") -> Sample:
    """Sample from a JSON row; unknown keys go to `meta`. Raises UserError naming the key at fault."""
    for key in ("id", "question", "gold", "kind"):
        if row.get(key) is None:
            raise UserError(f"row has no {key!r}", where=where, remedy="Every sample needs id, question, gold and kind")
    meta = {} if row.get("meta") is None else row["meta"]
    if not isinstance(meta, dict):
        raise UserError("meta must be an object", where=where, remedy="Write {} or leave it out")
    kind = kind_of(read.as_text(row["kind"], "kind", where), where)
    images = read.read_images(row, where)
    question, places = read.read_question(row["question"], len(images), where)
    more = row.get("alternatives")
    golds = read.read_golds(row["gold"], kind, where) + (read.read_golds(more, "", where) if more else ())
    gold, *alternatives = dict.fromkeys(golds)
    return Sample(
        id=read.as_text(row["id"], "id", where),
        source=read.read_text_field(row, "source", where),
        images=images,
        question=question,
        gold=gold,
        kind=kind,
        choices=read.read_choices(row.get("choices"), where),
        context=read.read_text_field(row, "context", where),
        licence=read.read_text_field(row, "licence", where),
        meta={**{key: value for key, value in row.items() if key not in KEYS}, **meta},
        alternatives=tuple(alternatives),
        places=places,
    )


def sample_to_row(sample: Sample) -> dict[str, Any]:
    """The JSON row `sample_from_row` reads back to an equal sample."""
    return {
        "id": sample.id,
        "source": sample.source,
        "images": list(sample.images),
        "question": read.with_marks(sample.question, sample.places),
        "gold": list(sample.golds) if sample.alternatives else sample.gold,
        "kind": sample.kind,
        "choices": list(sample.choices),
        "context": sample.context,
        "licence": sample.licence,
        "meta": sample.meta,
    }
