"""What can go wrong with one request, by name."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

ERROR_CHARS = 500
SECRETS = re.compile(r"(?:sk-|AIza|hf_|gh[pousr]_)[\w-]{6,}|(?i:bearer)\s+[^\s\"']+")
# What endpoints call their errors, in codes and in messages. A key that is moderated away is still a key.
CREDIT = re.compile(
    r"insufficient[_ ](?:quota|balance|credits?|funds?)|exceeded_current_quota|credit balance|balance (?:is )?(?:too low|not enough)"
    r"|(?:out|run out) of credits?|(?:no|not enough|more) credits|payment required|billing[_ ](?:hard[_ ]limit|not[_ ]active)"
    r"|arrear|account ?overdue|余额不足|欠费",
    re.IGNORECASE,
)
MODERATION = re.compile(
    r"moderat|flagged|content[_ -]?(?:filter|policy|management|safety)|responsible_?ai|data_?inspection"
    r"|(?:safety|usage)[_ ](?:system|polic|filter)|polic(?:y|ies)[_ ]violation|(?:prohibited|inappropriate|sensitive)[_ ]content|敏感|违规",
    re.IGNORECASE,
)
ACCOUNT = re.compile(r"\b(?:account|api[_ ]?key|organi[sz]ation|project)\b", re.IGNORECASE)
KEY = re.compile(r"api[_ ]?key|authenticat|unauthori[sz]ed|permission[_ ]denied", re.IGNORECASE)
BAD_KEY = re.compile(
    r"(?:invalid|incorrect|expired|wrong) api[_ ]?key|api[_ ]?key (?:is |has )?(?:not valid|invalid|expired|incorrect)",
    re.IGNORECASE,
)


class Fault(Exception):
    """A request without an answer.

    name    rate_limit, server, timeout, connection, cut, empty, broken (it stopped in the middle), unreadable (no chat
            completion), error (HTTP 200 all the same): worth another try; refused, filtered, too_large: this question
            never will be answered; key, missing, quota, tls: no question will be
    detail  the endpoint's words, scrubbed
    http    status code, where there was a response
    wait    seconds the endpoint asked for, or None
    billed  the endpoint did the work, so the request counts as paid
    """

    def __init__(
        self, name: str, detail: str, http: int | None = None, wait: float | None = None, billed: bool = False
    ):
        super().__init__(f"{name}: {detail}")
        self.name, self.detail, self.http, self.wait, self.billed = name, detail, http, wait, billed


class Words(NamedTuple):
    """What an error body says."""

    message: str
    called: str = ""
    """Codes and types by which the endpoint calls the error."""
    status: int | None = None
    """HTTP status that the body names."""


def status_fault(status: int, words: Words, headers: Mapping[str, str]) -> Fault:
    """Fault for an error under an HTTP status; under 200, the status that the body names decides."""
    sent, status = status, (words.status or status) if status < 300 else status
    wait, said = retry_after(headers), f"{words.called} {words.message}"
    name = "refused"
    if status == 402 or 200 <= status < 500 and CREDIT.search(said):
        name = "quota"
    elif status == 429:
        name = "rate_limit"
    elif status == 401:
        name = "key"
    elif status < 500 and MODERATION.search(said) and not (status == 403 and ACCOUNT.search(words.message)):
        name = "filtered"
    elif status == 403 or status <= 400 and (KEY.search(words.called) or BAD_KEY.search(words.message)):
        name = "key"
    elif status == 404 or 300 <= status < 400:
        name = "missing"
    elif status in (408, 409) or status >= 500:
        name = "server"
    elif status < 300:
        name = "error"
    return Fault(name, words.message, sent, wait)


def error_words(body: Any) -> Words | None:
    """Message, names and status of an error body in the shapes endpoints use; None where it holds no error."""
    body = _first(body)
    inner = next((_first(body[k]) for k in ("error", "errors", "base_resp", "detail") if body.get(k)), None)
    if inner is None and not (body.get("message") or body.get("msg")):
        return None
    inner = inner or body
    texts = [inner[k] for k in ("message", "msg", "status_msg", "detail", "error") if isinstance(inner.get(k), str)]
    metadata = inner.get("metadata")
    more = metadata if isinstance(metadata, dict) else {}
    if isinstance(more.get("raw"), str):  # a gateway repeats what its own supplier said
        texts[1:] = [more["raw"]]
    codes = [
        v for k in ("code", "type", "status", "status_code", "param") if isinstance(v := inner.get(k), str | int) and v
    ]
    if not texts and not codes:
        return None
    status = next((int(c) for c in codes if re.fullmatch(r"[45]\d\d", str(c))), None)
    called = " ".join(map(str, [*codes, *more]))
    return Words("; ".join(texts[:2]) or called, called, status)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait as announced: in milliseconds, in seconds, or as an HTTP date."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        if re.fullmatch(r"\d+(\.\d*)?", value := headers.get(name, "").strip(), re.ASCII):
            return float(value) / unit
    try:
        date = email.utils.parsedate_tz(headers.get("retry-after", ""))
        return max(0.0, email.utils.mktime_tz(date) - time.time()) if date else None
    except (ValueError, OverflowError):  # a date that no calendar has
        return None


def scrub(text: str, *secrets: str) -> str:
    """Error text fit for a ledger and one line of a screen: no key, no control characters, no page of HTML."""
    for secret in secrets:
        text = text.replace(secret, "[key]") if len(secret) >= 4 else text
    text = "".join(c if c.isprintable() else " " for c in SECRETS.sub("[key]", text))
    return " ".join(text.split())[:ERROR_CHARS]


def _first(value: Any) -> dict[str, Any]:
    """The value as a mapping: the first of a list, a text as a message, nothing for anything else."""
    while isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, dict) else {"message": value} if isinstance(value, str) else {}
