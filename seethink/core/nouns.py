"""The nouns. Data flows Sample -> Trace -> Verdict -> Example -> Score, and nothing flows back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

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
    """Free: coords, gold_coords, image_size of boxes; scene of the pocket world; part of a board."""


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
    status   ok, no_format, no_answer, ambiguous, malformed, too_long, timeout, scorer_error, gold_error
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
    """One graded item of a board, as it is written to scores.parquet."""

    board: str
    part: str
    sample_id: str
    kind: str
    ok: bool | None
    """None: undecided, `status` says why; never counted as wrong without saying so."""
    reward: float | None
    status: str
    answer: str | None
    text: str
    stop: str
    tokens: int
    seconds: float
    by: str = ""
    """Who decided, as in Verdict."""


def kind_of(name: str, where: object = "") -> Kind:
    """Canonical kind for a name or alias. Raises UserError for anything else."""
    name = KIND_ALIASES.get(name, name)
    if name not in KINDS:
        raise UserError(f"unknown reward kind {name!r}", where=where, remedy=f"Use one of {', '.join(KINDS)}")
    return KINDS[KINDS.index(name)]


def sample_from_row(row: dict[str, Any], where: object = "") -> Sample:
    """Sample from a JSON row; unknown keys go to `meta`. Raises UserError naming the key at fault."""
    known = {f.name for f in fields(Sample)}
    for key in ("id", "question", "gold", "kind"):
        if row.get(key) is None:
            raise UserError(f"row has no {key!r}", where=where, remedy="Every sample needs id, question, gold and kind")
    images = row.get("images") or []
    if isinstance(images, str):
        images = [images]
    if not all(isinstance(i, str) for i in images):
        raise UserError("images must be a list of file paths", where=where)
    meta = row.get("meta") or {}
    if not isinstance(meta, dict):
        raise UserError("meta must be an object", where=where)
    extra = {k: v for k, v in row.items() if k not in known and k != "completion"}
    return Sample(
        id=str(row["id"]),
        source=str(row.get("source", "")),
        images=tuple(images),
        question=str(row["question"]),
        gold=str(row["gold"]),
        kind=kind_of(str(row["kind"]), where),
        choices=tuple(str(c) for c in row.get("choices") or ()),
        context=str(row.get("context") or ""),
        licence=str(row.get("licence") or ""),
        meta={**extra, **meta},
    )


def sample_to_row(sample: Sample) -> dict[str, Any]:
    """The JSON row `sample_from_row` reads back to an equal sample."""
    row = asdict(sample)
    row["images"], row["choices"] = list(sample.images), list(sample.choices)
    return row
