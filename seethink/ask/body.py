"""What stands in the body of a response: an answer, or what went wrong.

Endpoints differ in what they leave out (usage, model, content) and add (reasoning under many names, an error beside half an
answer), so a body is read field by field: what is missing or of another type never costs an answer that is there.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from seethink.ask.faults import Fault, Words, error_words, status_fault
from seethink.ask.ledger import Reply
from seethink.ask.messages import CHARS_PER_TOKEN

MOST_TOKENS = 10_000_000  # more than any model reads or writes at once
# finish reasons in lower case, and what becomes of the answer; with any other one it is none and is asked for again
ENDS = {
    **dict.fromkeys(("", "stop", "eos", "eos_token", "end_of_sequence", "end_turn", "stop_sequence", "complete"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "max_length", "max_completion_tokens", "model_length"), "length"),
    **dict.fromkeys(("content_filter", "safety", "prohibited_content", "blocklist", "recitation", "refusal"), "filtered"),
}  # fmt: skip
REASONING = ("reasoning_content", "reasoning", "reasoning_text", "thinking", "thinking_content", "thinking_blocks",
             "reasoning_details", "thoughts")  # fmt: skip
THINKING = ("thinking", "reasoning", "reasoning.text", "reasoning.summary", "thought", "redacted_thinking")  # parts
TEXTS = (
    "text",
    "thinking",
    "reasoning",
    "reasoning_content",
    "summary",
    "content",
    "value",
)  # where a part has its text
_JSON = json.JSONDecoder()

_HALVES = re.compile(r"[\ud800-\udfff]")


def read_reply(body: str, seconds: float, estimate: int, kind: str = "") -> Reply:
    """Reply from the body of a successful response of a content type. Raises Fault for whatever is no whole answer."""
    parsed = parse(body)
    if isinstance(parsed, list) and (words := error_words(parsed)):
        raise status_fault(200, words, {})
    if not isinstance(parsed, dict):
        name, what = name_body(body, kind)
        raise Fault(name, f"{what} came where an answer in JSON was due", 200, billed="HTML" not in what)
    return read_completion(parsed, seconds, estimate)


def read_completion(parsed: dict[str, Any], seconds: float, estimate: int) -> Reply:
    """Reply from a chat completion. Raises Fault for whatever is no whole answer."""
    choice = _item(parsed.get("choices"))
    message, words = choice.get("message"), error_words(parsed) if parsed.get("error") or not choice else None
    if words:
        raise status_fault(200, words, {})
    if not isinstance(message, dict):
        raise Fault("unreadable", "the answer is not a chat completion (no choices with a message)", 200, billed=True)
    text, reasoning = _texts(message)
    finish = choice.get("finish_reason")
    stop = ENDS.get("" if finish is None else str(finish).lower(), "broken")
    refusal = message.get("refusal")
    if stop == "filtered" or refusal and isinstance(refusal, str) and not text.strip():
        raise Fault(
            "filtered", refusal or f"the endpoint's content filter ended it (finish_reason {finish})", 200, billed=True
        )
    words = error_words({"error": choice["error"]}) if choice.get("error") else None
    if words := words or (Words("it broke off") if stop == "broken" else None):
        fault = status_fault(200, words, {})
        name = fault.name if fault.name in ("quota", "key", "filtered") else "broken"
        raise Fault(name, f"{words.message} (finish_reason {finish})", 200, billed=True)
    if not text.strip() and not reasoning.strip() and stop != "length":
        raise Fault("empty", f"empty answer (finish_reason {finish})", 200, billed=True)
    usage, model = parsed.get("usage"), parsed.get("model")
    usage = usage if isinstance(usage, dict) else {}
    return Reply(
        text=text,
        stop=stop,
        prompt_tokens=count(usage.get("prompt_tokens"), estimate),
        completion_tokens=count(usage.get("completion_tokens"), len(text + reasoning) // CHARS_PER_TOKEN),
        model=_whole(model) if isinstance(model, str) else "",
        cached=False,
        seconds=seconds,
        reasoning=reasoning,
    )


def parse(body: str) -> Any:
    """JSON as it is, or None. A number of thousands of digits, which Python refuses to read, is infinity."""
    try:
        return _JSON.decode(body)
    except RecursionError:
        return None
    except ValueError:
        return _parse_long_numbers(body)


def _parse_long_numbers(body: str) -> Any:
    try:
        return json.loads(body, parse_int=lambda digits: int(digits) if len(digits) < 20 else float(digits))
    except (ValueError, RecursionError):
        return None


def name_body(body: str, kind: str = "") -> tuple[str, str]:
    """(name of the fault, what the body is) of one that is no JSON object, with a few of its words."""
    text = body.strip()
    if kind == "text/event-stream" or re.match(r"(?:data|event|id|retry)?:", text):
        return "unreadable", "an event stream"
    if kind == "text/html" or re.match(r"<!doctype|<html|<head|<body|<\?xml", text, re.IGNORECASE):
        said = re.sub(r"(?is)<(script|style)\b.*?(</\1>|$)|<[^>]*>", " ", text[:5000])
        return "unreadable", f"a page of HTML ({' '.join(said.split())[:80]})"
    if text[:1] in ("{", "[") and parse(text) is None:
        return "cut", "half of a JSON object"
    return "unreadable", f"text ({text[:80]!r})" if text else "an empty body"


def count(value: Any, guess: int) -> int:
    """Tokens as an endpoint counts them, a fraction rounded up. Where that cannot be, our own guess: neither a negative
    number nor one beyond all measure may make a budget endless or spend it at once."""
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    return math.ceil(number) if 0 < number <= MOST_TOKENS else guess


def _texts(message: dict[str, Any]) -> tuple[str, str]:
    """(what was said, what was thought) of a message whose content is a text or a list of parts."""
    content = message.get("content")
    if isinstance(content, str) and message.keys().isdisjoint(REASONING):  # as most answers come
        return _whole(content), ""
    said, thought = [], []
    for part in content if isinstance(content, list) else [content]:
        kind = str(part.get("type")).lower() if isinstance(part, dict) else ""
        (thought if kind in THINKING else said).append(part)
    try:
        named = (_flat(message.get(name)) for name in REASONING)
        return _flat(said), next((text for text in named if text.strip()), "") or _flat(thought)
    except RecursionError:
        raise Fault("unreadable", "the answer is nested without end", 200, billed=True) from None


def _flat(value: Any) -> str:
    """Text of a string, of a part, or of parts in parts."""
    if isinstance(value, list):
        return "".join(_flat(part) for part in value)
    if isinstance(value, dict):
        return _flat(next((value[name] for name in TEXTS if value.get(name)), None))
    return _whole(value) if isinstance(value, str) else ""


def _whole(text: str) -> str:
    """Without halves of surrogate pairs, which no file can hold; two halves that met again are a character."""
    if not _HALVES.search(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _item(value: Any) -> dict[str, Any]:
    return value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else {}
