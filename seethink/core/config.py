"""Typed configs: pydantic models filled from `@file.toml` and dotted overrides; the later one wins.

    seethink grpo @base.toml @mine.toml --optim.lr 1e-5 --seed 3 --no-freeze_vision

We parse this ourselves (about a hundred lines) because an unknown key must come back with the key that was meant, and
because `--help` of every verb must print from the model without importing what the verb runs on.
"""

from __future__ import annotations

import copy
import difflib
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from seethink.core.errors import UserError
from seethink.core.filetype import unreadable
from seethink.core.shipped import here_or_shipped, remedy_for
from seethink.core.store import read_json


class Effect(Enum):
    """What a setting changes. A field without a mark is a RESULT."""

    RESULT = "what is computed"
    MANNER = "how it is computed: equal results, up to rounding"
    PLACE = "where, how fast or whether at all: nothing of the result"
    OUTPUT = "what is written: a file or folder, of which nothing is changed that the user gave"
    INPUT = "what is read: a file or folder, which counts by its content and not by its name"
    CODE = "what runs: a function of the user's, which counts by its name and the content of its file"


Seed = Annotated[int, Field(ge=-(1 << 32), le=1 << 32)]
"""Small enough that a stream of its own can be made for every round and row."""


class Config(BaseModel):
    """Base of all configs: unknown keys and infinite numbers are errors, values never change after resolution."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    former: ClassVar[dict[str, str]] = {}
    """Earlier names of settings, which are still understood."""
    first: ClassVar[str] = ""
    """Dotted keys, with spaces between, that `--help` shows with their meaning where there are too many to show all; none: those of no part."""

    @model_validator(mode="before")
    @classmethod
    def _keep_siblings(cls, values: Any) -> Any:
        """`optim = OptimConfig(lr=1e-5)` as a default keeps its lr where only another key of `optim` is given."""
        if isinstance(values, dict):
            values = {cls.former.get(name, name): value for name, value in values.items()}
            for name, field in cls.model_fields.items():
                if isinstance(values.get(name), bool) and field.annotation in (int, float, int | None, float | None):
                    raise ValueError(f"{name} takes a number, not {str(values[name]).lower()}")  # true would be 1
        defaults = {name: field.default for name, field in cls.model_fields.items()}
        return _over(defaults, values) if isinstance(values, dict) else values


def whole(value: Any) -> Any:
    """The value itself. Raises UserError for a text or path with half a character: bytes on a command line that are no UTF-8.

    The name of a file may hold such; no model, and no library that saves one, can take it.
    """
    if isinstance(value, BaseModel):
        for _, part in value:
            if not isinstance(part, Path):
                whole(part)
    elif isinstance(value, tuple):
        for part in value:
            whole(part)
    elif isinstance(value, str | Path) and re.search(r"[\ud800-\udfff]", str(value)):
        raise UserError(f"{str(value)!r} is not UTF-8", remedy="Write it in UTF-8, or rename the file")
    return value


C = TypeVar("C", bound=Config)
LONGEST_SHOWN = 80  # characters of a value in an error


def resolve(model: type[C], arguments: Sequence[str]) -> C:
    """Config from command-line arguments. Raises UserError with a suggestion for unknown keys.

    Bare arguments are the `input` (of a report: the `study`) and the `other`, for verbs that have them; of a table, its `runs`.
    """
    values: dict[str, Any] = {}
    sources: list[tuple[str, dict[str, Any]]] = []
    keys = dict(describe(model))
    arguments = list(arguments)
    while arguments:
        argument = arguments.pop(0)
        if argument.startswith("@"):
            for file, given in layers(here_or_shipped(Path(argument[1:]))):
                sources.append((str(file), given))
                merge(values, copy.deepcopy(given))
        elif argument.startswith("--"):
            name, equals, text = argument[2:].partition("=")
            if not name:
                raise UserError(f"{argument!r} names no key", remedy="Leave it out, or write --key value")
            if name in model.former:
                print(f"--{name} is --{model.former[name]} now", file=sys.stderr)
            name = model.former.get(name, name)
            key, value = _flag(name, text if equals else None, arguments, keys)
            if (table := _table(key, keys)) and _at(values, table) is None:  # the other keys of its default stay
                merge(values, _nest(table, _default(model, table)))
            sources.append(("", _nest(key, value)))
            merge(values, copy.deepcopy(sources[-1][1]))
        elif bare := [name for name in ("input", "study", "other") if name in keys and name not in values]:
            values[bare[0]] = argument
        elif "runs" in keys:
            values["runs"] = [*values.get("runs", []), argument]
        else:
            raise UserError(f"unexpected argument {argument!r}", remedy="Use @file.toml or --key value")
    return whole(build(model, values, lambda place: _source(sources, place)))


def build(model: type[C], values: dict[str, Any], where: object | Callable[[Sequence[Any]], object] = "") -> C:
    """Validated config. Raises UserError naming the first key at fault, and `where`, which may depend on its place."""
    find = where if callable(where) else lambda _: where
    try:
        return model.model_validate(values, context={"where": find})
    except ValidationError as error:
        first = next((e for e in error.errors() if e["type"] == "extra_forbidden"), error.errors()[0])
        where = find(first["loc"])  # an unknown key first: what is missing may only be misspelt
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise _unknown(key, _of_table(model, first["loc"]) or dict(describe(model)), where) from None
        if first["type"] == "missing":
            raise UserError(f"{key} is required", where=where, remedy=f"Give --{key}") from None
        if first["type"] == "model_type" and (parts := _parts(key, dict(describe(model)))):
            raise UserError(f"{key} has parts and takes no value itself", where=where, remedy=parts) from None
        shown = repr(first["input"])
        shown = shown if len(shown) <= LONGEST_SHOWN else f"{shown[:LONGEST_SHOWN]}..."
        said = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{key} = {shown}: {said.lower()}" if key else said, where=where) from None


def where_of(info: ValidationInfo) -> object:
    """For a validator of a field: the file that gave it, where there is one."""
    return info.context["where"]((info.field_name,)) if info.context else ""


def load_file(path: Path) -> dict[str, Any]:
    """Settings of a file, over those of the files it includes."""
    values: dict[str, Any] = {}
    for _, given in layers(path):
        merge(values, copy.deepcopy(given))
    return values


def layers(path: Path, within: tuple[Path, ...] = ()) -> list[tuple[Path, dict[str, Any]]]:
    """(file, its settings): first what a TOML file says to `include` (paths from that file, the last one on top), then itself.

    Raises UserError for files that include one another in a circle.
    """
    values = _load(path)
    included = values.pop("include", []) if path.suffix != ".json" else []
    names = [included] if isinstance(included, str) else included
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise UserError(f"include = {included!r} is no file name", where=path, remedy='Write include = "other.toml"')
    found = []
    for name in names:
        below = path.parent / name
        if below.resolve() in {file.resolve() for file in (path, *within)}:
            raise UserError(f"includes {name}, which includes it", where=path, remedy="Let one of them stand alone")
        found += layers(below, (path, *within))
    return [*found, (path, values)]


def _load(path: Path) -> dict[str, Any]:
    """From a TOML file (written by people) or a JSON file (written by programs, as config.json of a run)."""
    if path.suffix == ".json":
        return read_json(path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError("config file not found", where=path, remedy=remedy_for(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else error
        raise UserError(f"not valid TOML ({why})", where=path) from None


def describe(
    model: type[BaseModel], prefix: str = "", given: BaseModel | None = None
) -> Iterator[tuple[str, tuple[str, str, str]]]:
    """(dotted key, (type, default, doc line)) of every leaf field, for help and suggestions; `given` holds defaults."""
    for name, field in model.model_fields.items():
        annotation = field.annotation
        required = field.is_required() and given is None
        default = None if required else getattr(given, name) if given else field.get_default(call_default_factory=True)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from describe(annotation, f"{prefix}{name}.", default)
        else:
            kind = annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
            yield prefix + name, (kind, "required" if required else repr(default), field.description or "")


def effects(model: type[BaseModel], prefix: str = "") -> dict[str, Effect]:
    """Dotted key of every leaf field -> what it changes; a mark on a nested model holds for all of it."""
    found: dict[str, Effect] = {}
    for name, field in model.model_fields.items():
        mark = next((m for m in field.metadata if isinstance(m, Effect)), Effect.RESULT)
        nested = field.annotation if isinstance(field.annotation, type) else None
        if nested and issubclass(nested, BaseModel):
            inner = effects(nested, f"{prefix}{name}.")
            found |= inner if mark is Effect.RESULT else dict.fromkeys(inner, mark)
        else:
            found[prefix + name] = mark
    return found


def identity(config: BaseModel) -> dict[str, Any]:
    """What makes a run this run and no other: its settings without places, and without the names of its inputs."""
    kept = {key for key, effect in effects(type(config)).items() if effect in (Effect.RESULT, Effect.MANNER)}
    return only(config.model_dump(mode="json"), kept)


def only(values: dict[str, Any], keys: set[str], prefix: str = "") -> dict[str, Any]:
    """The nested `values` at these dotted keys (leaf fields of a model; what lies below a leaf comes along)."""
    found = {}
    for name, value in values.items():
        key = prefix + name
        if key in keys:
            found[name] = value
        elif isinstance(value, dict) and (inner := only(value, keys, f"{key}.")):
            found[name] = inner
    return found


def to_toml_value(text: str) -> Any:
    """A TOML value where the text is one (3, 1e-5, true, [1, 2]), else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _flag(name: str, text: str | None, rest: list[str], keys: dict[str, tuple[str, str, str]]) -> tuple[str, Any]:
    name = name.replace("-", "_")
    if name.startswith("no_") and name not in keys and text is None:
        if name[3:] not in keys:
            raise _unknown(name[3:], keys)
        return name[3:], False
    if name not in keys and not _table(name, keys):
        raise _unknown(name, keys)
    kind = keys[name][0] if name in keys else "a value of a table, whose keys are its reader's business"
    if text is None:
        if kind == "bool" and (not rest or rest[0].lower() not in ("true", "false")):
            return name, True
        if not rest:
            raise UserError(f"--{name} needs a value")
        text = rest.pop(0)
        if kind.startswith(("list[", "tuple[")) and not text.startswith("["):  # --sizes 3 4 instead of --sizes "[3, 4]"
            values = [to_toml_value(text)]
            while rest and not rest[0].startswith(("--", "@")):
                values.append(to_toml_value(rest.pop(0)))
            return name, values
    return name, text if kind in ("str", "Path", "str | None", "Path | None") else to_toml_value(text)


def _of_table(model: Any, place: Sequence[Any], prefix: str = "") -> dict[str, tuple[str, str, str]]:
    """The keys of the named table (`arms.NAME` in `dict[str, Arm]`) in which a place lies; empty where it lies in none."""
    name, *rest = place
    kind = model.model_fields[name].annotation if name in model.model_fields else None
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _of_table(kind, rest, f"{prefix}{name}.") if rest else {}
    inner = get_args(kind)[-1] if get_origin(kind) is dict and len(rest) > 1 else None
    if isinstance(inner, type) and issubclass(inner, BaseModel):
        return dict(describe(inner, f"{prefix}{name}.{rest[0]}."))
    return {}


def _table(key: str, keys: dict[str, tuple[str, str, str]]) -> str:
    """The setting that is a table and holds this key; empty where there is none."""
    return next((k for k in keys if key.startswith(f"{k}.") and keys[k][0].startswith("dict")), "")


def _default(model: type[BaseModel], key: str) -> dict[str, Any]:
    """A copy of a table's default; empty where a part of the way to it has none."""
    name, _, rest = key.partition(".")
    default = model.model_fields[name].get_default(call_default_factory=True)
    return dict(reduce(lambda found, part: getattr(found, part, {}), rest.split(".") if rest else [], default))


def _source(sources: Sequence[tuple[str, dict[str, Any]]], place: Sequence[Any]) -> str:
    """The file that gave a setting last; empty for a flag."""
    for depth in (len(place), 1):
        for name, values in reversed(sources):
            inner: Any = values
            for part in place[:depth]:
                inner = inner.get(part, _source) if isinstance(inner, dict) else _source
            if inner is not _source:
                return name
    return ""


def _unknown(key: str, keys: dict[str, Any], where: object = "") -> UserError:
    if key in keys:  # from Python or JSON, where a dotted name is one key
        table, _, last = key.rpartition(".")
        return UserError(f"{key!r} is not one key", where=where, remedy=f"Give {last!r} within {table!r}")
    if parts := _parts(key, keys):
        return UserError(f"{key!r} has parts and takes no value itself", where=where, remedy=parts)
    table, dot, last = key.rpartition(".")
    beside = {k.removeprefix(table + dot): k for k in keys if dot and k.startswith(table + dot)}
    close = [k for k in keys if k.endswith("." + key)]
    close = close or [beside[k] for k in difflib.get_close_matches(last, beside, n=1, cutoff=0.5)]
    if not (close or beside):
        close = difflib.get_close_matches(key, {**keys, **dict.fromkeys(k.partition(".")[0] for k in keys)}, 1, 0.5)
    remedy = f"Did you mean {close[0]}?" if close else f"Known keys: {', '.join(beside.values() or keys)}"
    return UserError(f"unknown config key {key!r}", where=where, remedy=remedy)


def _parts(key: str, keys: dict[str, Any]) -> str:
    """What to do instead of giving a group of keys a value; empty for a key that is none."""
    found = [k for k in keys if k.startswith(f"{key}.")]
    return f"Give its parts: {', '.join(found)}" if found else ""


def _over(defaults: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """`values`, and for parts of nested models that they do not give, the parts of the default."""
    merged = dict(values)
    for name, default in defaults.items():
        if isinstance(default, BaseModel) and isinstance(values.get(name), dict):
            parts = {part: getattr(default, part) for part in type(default).model_fields}
            merged[name] = {**parts, **_over(parts, values[name])}
    return merged


def _nest(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _at(values: Any, key: str) -> Any:
    """The value at a dotted key of nested dicts; None where nothing stands."""
    return reduce(lambda found, part: found.get(part) if isinstance(found, dict) else None, key.split("."), values)


def merge(into: dict[str, Any], update: dict[str, Any]) -> None:
    """`update` over `into`, table by table, in place."""
    for key, value in update.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value
