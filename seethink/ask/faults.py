"""What can go wrong with one request, by name."""

from __future__ import annotations

import email.utils
import re
import time
from typing import Any

ERROR_CHARS = 500
SECRETS = re.compile(r"(?:sk-|AIza|hf_|gh[pousr]_)[\w-]{6,}|(?i:bearer)\s+[^\s\"']+")


class Fault(Exception):
    """A request without an answer.

    name    rate_limit, server, timeout, connection, cut, empty: worth another try;
            refused, filtered: this question never will be answered; key, missing, quota: no question will be
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


def status_fault(status: int, code: str, headers: Any, detail: str) -> Fault:
    """Fault for an HTTP error; `code` is what the body calls the error."""
    wait = retry_after(headers)
    if status == 402:  # how some endpoints say that the account is empty
        return Fault("quota", detail, status)
    if status == 429:
        return Fault("quota" if "insufficient_quota" in code else "rate_limit", detail, status, wait)
    if status in (401, 403):
        return Fault("key", detail, status)
    if status == 404:
        return Fault("missing", detail, status)
    if status in (408, 409) or status >= 500:
        return Fault("server", detail, status, wait)
    return Fault("filtered" if "content_filter" in code or "content_policy" in code else "refused", detail, status)


def retry_after(headers: Any) -> float | None:
    """Seconds to wait as announced: in milliseconds, in seconds, or as an HTTP date."""
    if (milliseconds := headers.get("retry-after-ms", "")).isdigit():
        return int(milliseconds) / 1000
    value = headers.get("retry-after", "")
    if re.fullmatch(r"\d{1,6}(\.\d+)?", value):
        return float(value)
    date = email.utils.parsedate_tz(value)
    return max(0.0, email.utils.mktime_tz(date) - time.time()) if date else None


def scrub(text: str, key: str) -> str:
    """Error text fit for a ledger: no key, no page of HTML."""
    text = text.replace(key, "[key]") if len(key) >= 6 else text
    return SECRETS.sub("[key]", text)[:ERROR_CHARS]
