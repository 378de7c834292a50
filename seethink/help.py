"""What the command line says of itself: verbs in sections, the keys of a verb that matter first, and words to complete.

seethink --help | help VERB | help files        seethink VERB --help | --help-all        seethink completion bash
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from seethink.core.config import Config, describe, load_file
from seethink.core.shipped import SHIPPED, shipped_names

SECTIONS = {
    "Data": ("import", "data", "data merge", "data push", "split", "curate", "select", "export", "fingerprint"),
    "Training": ("sft", "grpo", "push"),
    "Rewards": ("reward check", "reward score", "reward audit", "reward serve"),
    "Evaluation": ("eval", "eval compare", "eval table", "eval judge-check", "traces"),
    "The study": ("study", "report", "findings"),
    "Looking": ("watch", "view"),
    "This machine": ("doctor", "doctor sft", "doctor grpo"),
    "The pocket world": ("pocket build", "pocket teach", "pocket pretrain"),
}
FEW = 16
"""Keys that are shown without a choice among them."""
FLAGS = {
    "--dry-run": "say what would be done, and do nothing",
    "--json": "print one JSON object on stdout; everything else goes to stderr",
    "--help-all": "every key",
}
CODES = "Exit codes: 0 done, 1 a bug or a full disk, 2 bad input, 3 endpoint unusable, 4 budget spent, 130 interrupted, 141 unread to the end."
SCRIPTS = {
    "bash": r"""_seethink() {
    local line=${COMP_LINE:0:COMP_POINT} words
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    local IFS=$'\n'
    COMPREPLY=($(seethink completion words "${words[@]:1}" 2>/dev/null))
}
complete -o default -F _seethink seethink""",
    "zsh": r"""_seethink() {
    local -a found
    found=(${(f)"$(seethink completion words "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( $#found )); then compadd -- $found; else _files; fi
}
compdef _seethink seethink""",
    "fish": "complete -c seethink -a '(seethink completion words (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'",
}
"""Each asks for the words when it is used, so none goes stale."""

Verbs = Mapping[str, tuple[str, str, str]]
"""verb: (its settings, its function, what it does)"""


def usage(verbs: Verbs) -> str:
    """Every verb with what it does, by section."""
    width = max(len(verb) for verb in verbs)
    parts = [
        "seethink VERB [@file.toml ...] [--key value ...] [--dry-run] [--json]",
        "Imitate or explore? SFT against GRPO for reasoning vision-language models.",
        *(
            f"{section}\n" + "\n".join(_hanging(f"  {verb:{width}}  ", verbs[verb][2]) for verb in names)
            for section, names in SECTIONS.items()
        ),
        "seethink help VERB        the keys of a verb that matter first; VERB --help-all shows every key\n"
        "seethink help files       settings that are shipped, to be named with an @\n"
        "seethink completion bash  completion for bash, zsh or fish",
        CODES,
    ]
    return "\n\n".join(parts)


def group_text(group: str, verbs: Verbs) -> str:
    """The verbs that begin with one word."""
    names = [verb for verb in verbs if verb.split()[0] == group]
    width = max(len(verb) for verb in names)
    return "\n".join(
        [f"seethink {group} ...", "", *(_hanging(f"  {verb:{width}}  ", verbs[verb][2]) for verb in names)]
        + ["", f"seethink {names[-1]} --help shows the keys of one."]
    )


def files_text() -> str:
    """Names of the shipped settings, and what each says of itself: the question of a study, or its first comment."""
    names = [name for name in shipped_names() if "questions/" not in name and not name.endswith("common.toml")]
    width = max(len(name) for name in names)
    rows = []
    for name in names:
        asked = load_file(SHIPPED / name).get("question", {}).get("text", "")
        comment = (SHIPPED / name).read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        rows.append(_hanging(f"  @{name:{width}}  ", asked or comment.partition(". ")[0]))
    return "\n".join(
        ["Shipped settings, found from any folder; a file of that name that lies here goes first:", "", *rows]
    )


def verb_text(verb: str, settings: type[Config], whole: bool = False) -> str:
    """The keys of a verb with type, default and meaning: those that matter first, or all in their parts."""
    keys = dict(describe(settings))
    needed = " ".join(f"--{key} {_value(kind)}" for key, (kind, default, _) in keys.items() if default == "required")
    parts = [
        " ".join(f"seethink {verb} {needed} [@file.toml ...] [--key value ...] [--dry-run] [--json]".split()),
        settings.__doc__ or "",
    ]
    if beside := [other for names in SECTIONS.values() for other in names if other.startswith(f"{verb} ")]:
        parts.append(f"See also: {', '.join(beside)}.")
    if whole or len(keys) <= FEW:
        for title, names in _parts(settings, keys):
            parts.append("\n".join([*([title] if title else []), *_rows({name: keys[name] for name in names})]))
        return "\n\n".join(parts)
    first = settings.first.split() or [name for name in keys if "." not in name]
    parts.append("\n".join(["What matters first", *_rows({name: keys[name] for name in first})]))
    rest = [(title, [n for n in names if n not in first]) for title, names in _parts(settings, keys)]
    parts.append("\n".join(_counted(rest)))
    parts.append(f"seethink {verb} --help-all shows all {len(keys)} with their meaning.")
    return "\n\n".join(parts)


def words(verbs: Verbs, typed: list[str], keys_of: Any) -> Iterator[str]:
    """What may stand in the place of the last word typed; files are the shell's business. `keys_of(verb)`: its settings."""
    *before, last = typed or [""]
    before = before[1:] if before[:1] == ["help"] else before
    two = " ".join(before[:2])
    verb = two if two in verbs else before[0] if before and before[0] in verbs else ""
    if last.startswith("@"):
        yield from (f"@{name}" for name in shipped_names() if f"@{name}".startswith(last))
        return
    if len(before) < 2:  # the first word of a verb, or its second
        places = [v.split() for v in [*verbs, "help", "completion"]]
        found = {p[len(before)] for p in places if p[: len(before)] == before and len(p) > len(before)}
        yield from sorted(word for word in found if word.startswith(last))
    if not verb:
        return
    keys = dict(describe(keys_of(verb)))
    flag = before[-1].removeprefix("--").replace("-", "_") if before[-1].startswith("--") else ""
    if flag in keys:
        yield from (word for word in _choices(keys[flag][0]) if word.startswith(last))
    elif last.startswith("-"):
        yield from (word for word in (*(f"--{key}" for key in keys), *FLAGS) if word.startswith(last))


def _parts(settings: type[Config], keys: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """(title, keys) of the settings' own keys, then of each nested model."""
    yield "", [key for key in keys if "." not in key]
    for name, field in settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            said = (field.annotation.__doc__ or "").strip().partition("\n")[0].rstrip(".")
            yield f"{name}: {said}", [key for key in keys if key.startswith(f"{name}.")]


def _counted(rest: list[tuple[str, list[str]]]) -> Iterator[str]:
    """The other keys by name only."""
    yield "Further keys"
    for title, names in rest:
        if names and title:
            part = title.partition(":")[0]
            yield _hanging(f"  {part}.*  ", f"{len(names)} keys: {title.partition(': ')[2]}")
        elif names:
            yield _hanging("  ", " ".join(names))


def _rows(keys: Mapping[str, tuple[str, str, str]]) -> list[str]:
    """One key in a row; a long name has a row of its own."""
    width = min(max((len(key) for key in keys), default=0) + 4, 26)
    rows = []
    for key, (kind, default, said) in keys.items():
        value = " | ".join(_choices(kind)) or _value(kind)
        given = (
            "required" if default == "required" else {"None": "none", "''": "empty"}.get(default, default.strip("'\""))
        )
        rows.append(_hanging(f"  --{key}".ljust(width) + "  ", f"{said} [{value}; {given}]"))
    return rows


def _value(kind: str) -> str:
    """A type as a person says it."""
    if _choices(kind):
        return "WORD"
    kind = kind.removesuffix(" | None").replace("pathlib.", "").replace("Optional[", "").replace("Annotated[", "")
    names = {"str": "TEXT", "Path": "PATH", "int": "N", "float": "X", "bool": "yes/no"}
    head = kind.partition("[")[0].partition(",")[0]
    if head in ("tuple", "list"):
        return f"{names.get(kind.partition('[')[2].rstrip(']').split(',')[0].strip(), 'VALUE')} ..."
    return names.get(head, "TABLE" if head == "dict" else head)


def _choices(kind: str) -> list[str]:
    """The words that a key takes; none where it takes others too."""
    inside = kind.partition("Literal[")[2].rpartition("]")[0]
    words_of = [word.strip().strip("'\"") for word in inside.split(",")] if inside else []
    return ["true", "false"] if kind == "bool" else [word for word in words_of if word]


def _hanging(head: str, text: str) -> str:
    width = max(60, min(shutil.get_terminal_size().columns, 120))
    if len(head) > 42:
        return head.rstrip() + "\n" + _hanging(" " * 28, text)
    return textwrap.fill(
        text,
        width,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )
