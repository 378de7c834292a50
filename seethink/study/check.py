"""Does a plan hold? Every name in it means something, every setting is known, and what is compared can be compared.

All of it before anything runs: a mistyped setting shows now, not after half a day.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from seethink.core.config import build
from seethink.core.errors import UserError
from seethink.core.load import load_function
from seethink.core.names import inside
from seethink.core.nouns import kind_of
from seethink.core.url import secret_addresses
from seethink.rewards.custom import load_custom
from seethink.study.config import CONFIG_OF, Arm, StudyConfig
from seethink.study.efforts import efforts_of
from seethink.study.execute import Stage, code_of
from seethink.study.matched import AXES, TOLERANCE
from seethink.study.plan import (
    asks_model,
    behind,
    comparisons,
    data_of,
    exported,
    lineage,
    planned,
    settings_of,
    value_at,
)
from seethink.study.published import published_table
from seethink.train.config import GRPOConfig
from seethink.train.model.folder import check_folder

OURS = {
    **dict.fromkeys(
        ("sft", "grpo", "arms"), ("out", "overwrite", "data", "seed", "model.path", "demos.data", "teacher")
    ),
    **dict.fromkeys(("eval", "evals"), ("out", "overwrite", "model", "data", "base_url")),
    "sets": ("out", "overwrite", "data"),
}
"""Settings of a stage that follow from the plan and stand nowhere else in it: where, on what, from where, against what."""


def check(config: StudyConfig, files: bool = True) -> None:
    """Refuse a plan that does not hold, or (`files`) whose files are missing. Raises UserError."""
    if config.base == Path():
        raise UserError("the plan names no base", where=config.file_of("arms"), remedy="Give --base")
    if config.board == Path():
        raise UserError("the plan names no board", where=config.file_of("arms"), remedy="Give --board")
    if files and (gone := list(missing(config))):
        what, path, remedy = gone[0]
        raise UserError(f"{what} {path} does not exist", where=config.file_of(*what.split(" ", 1)), remedy=remedy)
    check_names_of(config)
    for name, arm in config.arms.items():
        with said_of(config, "arms", name):
            lineage(config, name)
        check_arm(config, name, arm)
    for kind, name in [("arms", name) for name in config.arms] + [("sets", name) for name in config.sets]:
        with said_of(config, kind, name):
            behind(config, (kind, name))
    if min(config.seeds, default=-1) < 0 or len(set(config.seeds)) < len(config.seeds):
        raise UserError(
            f"seeds = {config.seeds}",
            where=config.place("seeds"),
            remedy="Give at least one, each once, none of them negative",
        )
    check_comparisons(config)
    check_tables(config)
    check_code(config)
    planner = planned(config)
    for name in config.sets:  # also one that nothing reads
        planner.make(name, config.seeds[0])
    for stage in planner.stages.values():
        check_stage(config, stage)
    if files:
        for path in (config.base, *config.bases.values()):
            check_folder(path)
    if not config.accept_unmatched:
        for a, b, axes in unmatched(config):
            remedy = "Match them, take the axis out of matched_on, or give --accept_unmatched"
            raise UserError(f"{a} and {b} are compared and not matched on {axes}", remedy=remedy)


def check_stage(config: StudyConfig, stage: Stage) -> None:
    """Raises UserError for a setting that the verb of a stage does not know, for code that is not there, and for a secret."""
    built = build(
        CONFIG_OF[stage.verb], stage.settings, where=lambda place: config.place(*table_of(config, stage, place))
    )
    for key, name in code_of(built).items():
        with said_of(config, *table_of(config, stage, key.split(".")), key):
            load_custom(name) if key == "reward.custom" else load_function(name, key)
    for address in secret_addresses(stage.settings):
        where = config.place(stage.arm if stage.arm.startswith("set ") else f"arm {stage.arm}")
        remedy = "Name an environment variable with the key instead"
        raise UserError(f"a study writes down what {address} hides", where=where, remedy=remedy)
    inside(config.out, stage.out)


def table_of(config: StudyConfig, stage: Stage, key: Sequence[Any]) -> tuple[str, ...]:
    """The table of the plan that gave a setting of a stage; where none did, the arm or the set."""
    noun, _, made = stage.arm.partition(" ")
    if noun == "set" and made:
        tables = [("sets", made, "set")]
    elif stage.verb == "eval":
        tables = [("evals", stage.name.removeprefix("eval-"), "set")]
    else:
        tables = [("arms", stage.arm, "set")]
    for table in [*tables, (stage.verb,)]:
        given = (
            getattr(getattr(config, table[0]).get(table[1]), "set", {}) if table[1:] else getattr(config, table[0], {})
        )
        if value_at(given, ".".join(map(str, key))) is not None:
            return table
    return tables[0][:2] if noun == "set" else ("arms", stage.arm)


@contextmanager
def said_of(config: StudyConfig, *key: str) -> Iterator[None]:
    """Where in the plan stands what an error is about."""
    try:
        yield
    except UserError as error:
        error.where = ": ".join(filter(None, (config.place(*key), error.where)))
        raise


def check_code(config: StudyConfig) -> None:
    """Raises UserError for a checker or a published table that is not there: they are read when all stages have run."""
    if config.checker:
        with said_of(config, "checker"):
            load_function(config.checker, "checker")
    if config.published:
        with said_of(config, "published"):
            published_table(config.published)


def check_names_of(config: StudyConfig) -> None:
    """Raises UserError for a name that means nothing."""
    arms = {"base": None, **config.bases, **config.arms}
    files = {**config.data, **config.sets}
    named = [(("reference",), config.reference)]
    named += [(("comparisons",), name) for pair in config.comparisons for name in pair]
    for name, arm in config.arms.items():
        named += [(("arms", name, "start"), arm.start)]
        named += [(("arms", name, "teacher"), arm.teacher)] if arm.teacher else []
    named += [(("evals", name, "arms"), arm) for name, one in config.evals.items() for arm in one.arms]
    named += [(("sets", name, "model"), one.model) for name, one in config.sets.items() if one.model]
    _known(config, named, arms, "arm")
    read = [(("arms", name, "data"), data_of(arm)) for name, arm in config.arms.items()]
    read += [(("arms", name, "demos"), arm.demos) for name, arm in config.arms.items() if arm.demos]
    read += [(("sets", name, "of"), one.of) for name, one in config.sets.items()]
    _known(config, read, files, "data")
    boards = [(("evals", name, "board"), one.board) for name, one in config.evals.items() if one.board]
    _known(config, boards, config.data, "data")
    _known(config, [(("matched_on",), axis) for axis in config.matched_on], AXES, "axis")
    for kind in config.handicapped if config.handicapped != "auto" else ():
        kind_of(kind, config.place("handicapped"))


def _known(
    config: StudyConfig, named: list[tuple[tuple[str, ...], str]], known: Mapping[str, Any] | Sequence[str], noun: str
) -> None:
    """`named`: (key of the plan, the name that it gives). Raises UserError for a name that is not `known`."""
    for key, name in named:
        if name not in known:
            remedy = f"Known: {', '.join(known)}"
            raise UserError(f"unknown {noun} {name!r}", where=config.place(*key), remedy=remedy)


def check_arm(config: StudyConfig, name: str, arm: Arm) -> None:
    """Raises UserError for what an arm asks and cannot have."""
    where = config.place("arms", name)
    if arm.stage == "sft" and (arm.demos or arm.teacher):
        raise UserError("demos and teacher are for grpo", where=where, remedy="Leave them out, or stage = grpo")
    if arm.at and arm.start not in config.arms:
        raise UserError(
            f"at = {arm.at}, but {arm.start} is no arm and has no steps", where=where, remedy="Leave at out"
        )
    for file in filter(None, (data_of(arm), arm.demos)):
        if file in config.sets and config.sets[file].verb == "eval":
            remedy = f'Make a set of them with verb = "curate" and set = {{ from_scores = "{file}" }}'
            raise UserError(
                f"{file} holds scored answers, which nothing trains on as they are", where=where, remedy=remedy
            )
    settings = settings_of(config, arm)
    starts, every = exported(config, name), settings.get("export_every")
    rounds = settings.get("rounds", GRPOConfig.model_fields["rounds"].default)
    if arm.stage == "grpo" and max(starts, default=0) > rounds:
        raise UserError(
            f"an arm starts at its round {starts[-1]}, and it has {rounds}", where=where, remedy="Lower `at`"
        )
    if every and (off := [start for start in starts if start % every]):
        what = f"an arm starts at its {off[0]}, which export_every = {every} leaves out"
        raise UserError(what, where=where, remedy="Leave export_every out: it follows from `at`")


def check_comparisons(config: StudyConfig) -> None:
    """Raises UserError for a comparison that says nothing, and for a question about one that is not planned."""
    for a, b in config.comparisons:
        if a == b:
            what = f"comparison of {a!r} with itself"
            raise UserError(what, where=config.place("comparisons"), remedy="Name two arms")
    planned = comparisons(config)
    for pair in config.question.comparisons:
        if pair not in planned:
            listed = ", ".join(f"{a} - {b}" for a, b in planned)
            what, where = f"{pair[0]} - {pair[1]} is not planned", config.place("question", "comparisons")
            raise UserError(what, where=where, remedy=f"Planned: {listed}")


def check_tables(config: StudyConfig) -> None:
    """Raises UserError for settings that are not the plan's to say, or that would be ignored."""
    tables = {"sft": config.sft, "grpo": config.grpo, "eval": config.eval}
    for kind in ("arms", "sets", "evals"):
        tables |= {f"{kind}.{name}.set": one.set for name, one in getattr(config, kind).items()}
    for table, settings in tables.items():
        for key in OURS[table.partition(".")[0]]:
            if value_at(settings, key) is not None:
                remedy = (
                    "Leave it out: it follows from out, base, board, seeds and the arm's start, data, demos and teacher"
                )
                where = config.file_of(*table.split("."), *key.split("."))
                raise UserError(f"{table}.{key} is not the plan's to say", where=where, remedy=remedy)
    for name, made in config.sets.items():
        if not asks_model(made.verb, made.set):
            if made.model:
                what = f"sets.{name}.model is not used: {made.verb} asks " + (
                    "no model" if made.verb == "curate" else "others"
                )
                raise UserError(what, remedy="Leave it out")
        elif "model" in made.set:
            raise UserError(f"sets.{name}.set.model is not the plan's to say", remedy=f"Give sets.{name}.model")


def missing(config: StudyConfig) -> Iterator[tuple[str, Path, str]]:
    """(what, path, remedy) of files that the stages of a plan read and that are not there."""
    if not config.board.exists():
        yield "board", config.board, "Give --board"
    for name in used(config):
        if name in config.data and not config.data[name].exists():
            yield f"data {name}", config.data[name], f"Give --data.{name}"


def used(config: StudyConfig) -> list[str]:
    """Data and sets that stages read."""
    arms = [node for name in config.arms for node in (("arms", name), *behind(config, ("arms", name)))]
    found = [file for kind, name in arms for file in _reads(config, kind, name)]
    found += [one.board for one in config.evals.values() if one.board]
    known = {*config.data, *config.sets}
    return list(dict.fromkeys(file for file in found if isinstance(file, str) and file in known))


def _reads(config: StudyConfig, kind: str, name: str) -> list[Any]:
    """What an arm or a set names that may be data or sets."""
    if kind == "sets":
        made = config.sets[name]
        return [name, made.of, *chain(*(v if isinstance(v, list) else [v] for v in made.set.values()))]
    arm = config.arms[name]
    settings = settings_of(config, arm)
    return [data_of(arm), arm.demos, value_at(settings, "watch.data")]


def unused(config: StudyConfig, offered: Collection[Path] = ()) -> Iterator[str]:
    """What a plan names and nothing reads, in words; not what its prepare function has `offered`."""
    read = used(config)
    data = [name for name, path in config.data.items() if path not in offered]
    for kind, names in (("data", data), ("set", config.sets)):
        for name in names:
            if name not in read:
                yield f"{kind} {name}: no arm and no evaluation uses it"
    starts = {model for arm in config.arms.values() for model in (arm.start, arm.teacher)}
    starts |= {config.sets[name].model for name in read if name in config.sets}
    named = {name for pair in comparisons(config) for name in pair}
    for name in config.bases:
        if name not in starts | named:
            yield f"base {name}: no arm starts from it and no comparison names it"
    for name in config.arms:
        if name not in starts | named | {config.reference}:
            yield f"arm {name}: no comparison names it and no arm starts from it"


def unmatched(config: StudyConfig) -> Iterator[tuple[str, str, str]]:
    """(a, b, the axes in words) of comparisons whose arms the plan itself sets apart on an axis of `matched_on`.

    Only what follows from the plan: tokens and seconds show after the run. An arm is not held against one that it started
    from: there the further training is the named factor.
    """
    for a, b in comparisons(config):
        if a not in config.arms or b not in config.arms:
            continue
        if a in _starts(config, b) or b in _starts(config, a):
            continue
        left, right = (efforts_of(config, name) for name in (a, b))
        axes = [
            f"{axis} ({x:,} / {y:,})"
            for axis in config.matched_on
            if (x := left.get(axis)) is not None and (y := right.get(axis)) is not None and abs(x - y) > TOLERANCE * y
        ]
        if axes:
            yield a, b, ", ".join(axes)


def _starts(config: StudyConfig, name: str) -> Iterator[str]:
    """The arms that an arm's model went through before."""
    while (name := config.arms[name].start) in config.arms:
        yield name
