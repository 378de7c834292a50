"""What the columns of other programs mean: one table per format, and the one way from such a row to ours."""

from __future__ import annotations

import ast
import json
import math
import re
import string
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from seethink.core.errors import UserError
from seethink.core.fields import PLACEHOLDER, as_text, lettered, names_pictures, read_choices
from seethink.core.filetype import CHATS, conversation_in
from seethink.core.nouns import KINDS, sample_from_row
from seethink.core.prompt import prompt_text
from seethink.core.tags import ANSWER, ANSWER_END, THINK, THINK_END, compose, extract
from seethink.data.imports.files import Fields
from seethink.data.imports.kinds import kind_of_gold, letter_of, refuse_numbered

Aliases = dict[str, tuple[str, ...]]
"""Our name -> theirs, best first; a dot leads into an object."""

BASE: Aliases = {
    "id": ("id", "index", "question_id", "qid", "pid", "problem_id", "uid"),
    "source": ("source", "data_source"),
    "images": ("images", "image", "decoded_image", "img", "image_path", "image_paths", "file_name"),
    "kind": ("kind",),
    "choices": ("choices", "options"),
    "gold": ("solution", "answer", "gold", "gt", "ground_truth", "label"),
    "alternatives": ("alternatives",),
    "context": ("context",),
    "licence": ("licence", "license"),
    "meta": ("meta",),
}
GOLDS = BASE["gold"][:-1]
"""Of which no two may differ; a label is often the number of an answer that stands beside it."""
CHAT: Aliases = {
    **BASE,
    "question": ("question",),
    "conversation": ("messages", "conversations"),
    "system": ("system",),
}
FORMATS: dict[str, Aliases] = {
    "hf": {
        **BASE,
        "question": ("question", "problem", "query", "prompt", "instruction"),
        "completion": ("completion", "response", "output"),
        "hint": ("hint",),
        "input": ("input",),
    },
    "easyr1": {**BASE, "asked": ("problem", "question", "prompt"), "gold": ("answer", "solution")},
    "verl": {
        **{name: (*(f"extra_info.{one}" for one in theirs), *theirs) for name, theirs in BASE.items()},
        "source": ("extra_info.source", "data_source"),
        "question": ("extra_info.question",),
        "gold": ("extra_info.solution", "reward_model.ground_truth"),
        "ability": ("ability",),
        "conversation": ("prompt",),
    },
    "trl": {**CHAT, "conversation": ("prompt", "messages"), "completion": ("completion",)},
    "messages": CHAT,
    "swift": {**CHAT, "asked": ("query",), "completion": ("response",), "history": ("history",)},
    "sharegpt": {**CHAT, "conversation": ("conversations", "messages")},
    "llava": {**CHAT, "conversation": ("conversations",)},
    "paper": {},
}
OURS = ("question", "gold", "images", "id", "source", "kind", "choices", "alternatives", "context", "licence", "completion", "conversation", "hint", "input")  # fmt: skip
"""What --columns may name; a hint is asked before the question, an input after it."""
CONTEXT = "a context, which only the captioner of `seethink data` is shown (--columns context=input puts it into the question)"
UNTAGGED = f"a completion without {THINK}..{THINK_END} {ANSWER}..{ANSWER_END}, in which no answer can be read"
NUMBERED = re.compile(r"<image[ _]?(\d+)>")
WORDS = {"answer": "gold", "solution": "gold", "image": "images", "problem": "question", "messages": "conversation"}
"""Other words for these."""
ROLES = {"human": "user", "gpt": "assistant", "model": "assistant", "chatgpt": "assistant", "bot": "assistant"}
FRAME = ("data_source", "reward_model", "ability")
"""Of verl: what only it needs, once our keys are taken out."""


class OurRow(NamedTuple):
    """A row of ours, but for its pictures, which still are what the source says of them."""

    row: Fields
    pictures: Any
    notes: tuple[str, ...]
    """What became of what has no place in a row."""


class Dialogue(NamedTuple):
    system: str
    question: str
    completion: str
    pictures: list[Any]


def draft(row: Fields, names: Aliases, kind: str, where: str) -> OurRow:
    """Raises UserError for a row without question or gold, with several turns, or of no kind that can be told."""
    taken, rest = take(row, names)
    turns = read_turns(taken.pop("conversation", ""), where)
    system = taken.pop("system", "") or turns.system
    notes = ["a system prompt, which rows have no place for"] if system else []
    taken = _unpacked(taken)
    prompt = taken.pop("asked", "")
    asked = turns.question or prompt or taken.get("question", "")
    completion = turns.completion or read_turns(taken.pop("completion", ""), where, "assistant").completion
    if taken.pop("history", None):
        raise _several_turns(where)
    if not isinstance(asked, str) or not asked.strip():
        raise UserError("row has no question", where=where, remedy=_columns("question", names, row))
    if others := [name for name in names["gold"] if name in rest and name in GOLDS and rest[name] != taken["gold"]]:
        what = f"{' and '.join(name for name in GOLDS if _filled(row.get(name)))} differ, and any may be the gold"
        raise UserError(what, where=where, remedy=f"Say which it is, e.g. --columns {others[0]}=gold")
    if "gold" not in taken:
        completion, taken["gold"] = answered(completion)
        notes += ["a gold read from the answer"] if taken["gold"] else []
    if taken["gold"] == "":
        raise UserError("row has no gold", where=where, remedy=_columns("gold", names, row))
    pictures = taken.pop("images", None) or turns.pictures
    stray = [key for key in rest if names_pictures(key) or key in BASE["images"] or _holds_bytes(rest[key])]
    if stray and not pictures:
        what = f"column {stray[0]!r} looks like pictures, and the row has no others"
        raise UserError(what, where=where, remedy=f"Say so: --columns {stray[0]}=images")
    taken["choices"] = _choices(_labelled(taken), rest, where)
    meta = {**{key: value for key, value in rest.items() if key not in (*stray, *FRAME)}, **_meta(taken)}
    notes += [f"column {key!r}, left out" for key in stray]
    notes += [f"column {key!r}, kept in meta" for key in rest if key not in (*stray, *FRAME)]
    notes += [CONTEXT] if taken.get("context") else []
    notes += [UNTAGGED] if completion and extract(completion).status != "ok" else []
    hint, more = (as_text(taken.pop(name, ""), name, where) for name in ("hint", "input"))
    asked = plain_marks("\n".join(text for text in (hint, asked, more) if text))
    taken |= {"meta": meta, "question": asked_as(taken, asked), "completion": completion}
    return OurRow(_with_kind(taken, kind, where), pictures, tuple(notes))


def plain_marks(asked: str) -> str:
    """Marks of images that are numbered (`<image1>`, `<image 2>`), as ours, where each stands once and in order."""
    numbers = NUMBERED.findall(asked)
    in_order = numbers == [str(i + 1) for i in range(len(numbers))]
    return NUMBERED.sub(PLACEHOLDER, asked) if in_order else asked


def take(row: Fields, names: Aliases) -> tuple[Fields, Fields]:
    """(what the names find, under ours; what is left of the row)."""
    taken, used = {}, set()
    for ours, theirs in names.items():
        for name in theirs:
            if _filled(value := look(row, name)):
                taken[ours] = value
                used.add(name)
                break
    rest = {}
    for key, value in row.items():
        if isinstance(value, dict) and any(name.startswith(f"{key}.") for name in used):
            value = {inner: v for inner, v in value.items() if f"{key}.{inner}" not in used and _filled(v)}
        if key not in used and _filled(value):
            rest[key] = value
    return taken, rest


def look(row: Fields, name: str) -> Any:
    """The value of a column, or of a key in an object; None where there is none."""
    if name in row:
        return row[name]
    first, dot, inner = name.partition(".")
    return row[first].get(inner) if dot and isinstance(row.get(first), dict) else None


def together(row: Fields, names: list[str]) -> Fields:
    """The row with the pictures of several columns in the first of them, in this order."""
    if len(names) < 2:
        return row
    held = [value for name in names if _filled(value := look(row, name))]
    return {**{key: value for key, value in row.items() if key not in names}, names[0]: held}


def read_turns(value: Any, where: str, role: str = "user") -> Dialogue:
    """A conversation of one question and at most one answer; a text alone is said by `role`.

    Raises UserError for several turns, other speakers, and what is no conversation.
    """
    said: dict[str, str] = {}
    pictures: list[Any] = []
    for speaker, content in _messages(value, where, role):
        if speaker not in ("system", "user", "assistant"):
            raise UserError(f"a turn of {speaker!r}", where=where, remedy="Rows hold one question and its answer")
        if speaker in said or speaker == "user" and "assistant" in said:
            raise _several_turns(where)
        texts = []
        for part in content if isinstance(content, list) else [content]:
            if isinstance(part, dict) and part.get("text") is None:
                pictures += [held] if (held := {k: v for k, v in part.items() if k != "type" and _filled(v)}) else []
                part = PLACEHOLDER
            text = part["text"] if isinstance(part, dict) else part
            texts.append(as_text(text, "a turn", where))
        said[speaker] = "".join(texts)
    return Dialogue(said.get("system", ""), said.get("user", ""), said.get("assistant", ""), pictures)


def _messages(value: Any, where: str, role: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            yield role, value
            return
    if isinstance(value, str | int | float):
        yield from [(role, str(value))] if value != "" else []
        return
    if isinstance(value, dict) and all(isinstance(column, list) for column in value.values()):
        # the datasets library once kept lists of objects as objects of lists
        value = [dict(zip(value, parts, strict=False)) for parts in zip(*value.values(), strict=False)]
    for turn in value if isinstance(value, list) else [value]:
        speaker = turn.get("role") or turn.get("from") if isinstance(turn, dict) else None
        content = (
            next((turn[key] for key in ("content", "value") if turn.get(key) is not None), None) if speaker else None
        )
        if not isinstance(speaker, str) or content is None:
            what = "a turn has no speaker or no text"
            raise UserError(what, where=where, remedy="Write {role, content} or {from, value}")
        yield ROLES.get(speaker, speaker), content


def answered(text: str) -> tuple[str, str]:
    """(completion, gold) of an answer without a gold beside it.

    A bare answer is the gold and no completion; `<think>..</think>` before one becomes a completion as ours are laid out.
    """
    parsed = extract(text)
    if parsed.status == "ok":
        return text, parsed.answer or ""
    think, end, answer = text.partition(THINK_END)
    if end and think.lstrip().startswith(THINK) and ANSWER not in text:
        answer = answer.strip()
        return compose(think.replace(THINK, "", 1).strip(), answer) if answer else "", answer
    return "", text.strip()


def asked_as(taken: Fields, asked: str) -> str:
    """The question: as our own export kept it, where the prompt still says what follows from it, else the prompt."""
    own, images = taken.get("question"), asked.count(PLACEHOLDER)
    if not isinstance(own, str) or own == asked:
        return asked
    row = {"id": "x", "gold": "x", "kind": "open", "question": own, "choices": taken.get("choices")}
    for names in (["x"] * images, ["x"] * own.count(PLACEHOLDER)):
        try:
            sample = sample_from_row({**row, "images": names})
        except UserError:
            continue
        if asked.split() in (prompt_text(sample, mark).split() for mark in (PLACEHOLDER, "")):
            return own
    return asked


def _unpacked(taken: Fields) -> Fields:
    """With what our own export keeps in a gold that is the JSON of the whole truth (EasyR1)."""
    gold = taken.get("gold")
    if isinstance(gold, str) and gold.startswith("{"):
        try:
            truth = json.loads(gold)
        except ValueError:
            return taken
        if isinstance(truth, dict) and {"kind", "solution"} <= truth.keys():
            found, _ = take(truth, CHAT)
            return {**taken, **found}
    return taken


def _meta(taken: Fields) -> Fields:
    meta = taken.pop("meta", {})
    if isinstance(meta, str):  # as our exports hold it: keys that differ from row to row are not for tables
        try:
            meta = json.loads(meta)
        except ValueError:
            meta = {"meta": meta}
    return meta if isinstance(meta, dict) else {"meta": meta}


def _labelled(taken: Fields) -> Any:
    """The choices; those of {label: [..], text: [..]} and {A: .., B: ..} in the order of their letters.

    Where labels are no letters, a gold that is one of them becomes its letter.
    """
    value = taken.get("choices")
    if isinstance(value, dict) and value.keys() == {"label", "text"}:
        value = dict(zip(map(str, value["label"]), value["text"], strict=False))
    if not isinstance(value, dict):
        return value
    letters = string.ascii_uppercase[: len(value)]
    if {*value} == {*letters}:
        return [value[letter] for letter in letters]
    golds = taken["gold"] if isinstance(taken["gold"], list) else [taken["gold"]]
    if all(str(gold) in value for gold in golds):
        named = dict(zip(value, letters, strict=False))
        taken["gold"] = [named[str(gold)] for gold in golds]
    return [*value.values()]


def _choices(value: Any, rest: Fields, where: str) -> list[str]:
    """Options of a list, of its text, or in columns A, B, C, ... which are taken out of `rest`."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise UserError("its choices are no list of texts", where=where, remedy="Write a list") from None
    if not value and {"A", "B"} <= rest.keys():
        letters = []
        for letter in string.ascii_uppercase:
            if letter not in rest:
                break
            letters.append(letter)
        value = [rest.pop(letter) for letter in letters]
    return list(read_choices(value, where))


def _with_kind(taken: Fields, kind: str, where: str) -> Fields:
    """With the kind that the row names, or the one that is asked for, or that its gold shows."""
    ability = taken.pop("ability", None)
    own = taken.get("kind") or (ability if ability in KINDS and kind == "auto" else None)
    if own:
        return {**taken, "kind": own}
    golds = taken["gold"] if isinstance(taken["gold"], list) else [taken["gold"]]
    listed = taken["choices"] or (list(lettered(taken["question"])) if kind in ("auto", "choice") else [])
    if kind in ("auto", "choice"):
        refuse_numbered(golds, listed, where)
    if kind == "auto":
        kind = kind_of_gold(taken, listed, where)
    if kind == "choice":
        letters = [letter_of(as_text(gold, "gold", where), listed) for gold in golds]
        taken = {
            **taken,
            "choices": listed,
            "gold": [letter or gold for letter, gold in zip(letters, golds, strict=True)],
        }
    return {**taken, "kind": kind}


def _columns(ours: str, names: Aliases, row: Fields) -> str:
    """What to do where a row lacks something that may only have another name, or be another format's."""
    if "conversation" not in names and (turns := conversation_in(row)):
        return f"It has {turns}: --format {CHATS[turns]}"
    for name, value in row.items():
        if len(row) == 1 and isinstance(value, list) and value and isinstance(value[0], dict):
            return f"Its rows stand in {name!r}: write that list alone, e.g. jq .{name}"
    looked = ", ".join(dict.fromkeys((*names.get("conversation", ()), *names.get("asked", ()), *names.get(ours, ()))))
    return f"Looked for {looked} among {', '.join(list(row)[:12])}; name another with --columns THEIRS={ours}"


def _several_turns(where: str) -> UserError:
    return UserError("a conversation of several turns", where=where, remedy="Rows hold one question and its answer")


def _filled(value: Any) -> bool:
    return value not in (None, "", [], {}) and not (isinstance(value, float) and math.isnan(value))


def _holds_bytes(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(_holds_bytes, value.values() if isinstance(value, dict) else value))
    return isinstance(value, bytes)


def counted(notes: Counter[str]) -> Iterator[str]:
    """The notes of all rows, a line each."""
    for note, rows in notes.most_common():
        yield f"{rows} row{'s' * (rows > 1)} with {note}"
