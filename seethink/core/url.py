"""Addresses of endpoints, and where their keys are. An address may carry a password: it is used, and left out wherever the
address is written or shown."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, PlainSerializer

from seethink.core.errors import UserError

MASK = "***"


def public(url: str) -> str:
    """Without user, password and query, fit for files and screens; also of text that is no address."""
    url = re.sub(r"^([a-z][a-z0-9+.-]*://)?.*@", rf"\1{MASK}@", url, flags=re.IGNORECASE | re.DOTALL)
    return re.sub(r"[?#].*", f"?{MASK}", url, flags=re.DOTALL)


def secret_addresses(value: Any) -> Iterator[str]:
    """The addresses with a password or a query among nested settings, as they may be shown."""
    if isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from secret_addresses(part)
    elif isinstance(value, str) and re.fullmatch(r"https?://\S+", value) and public(value) != value:
        yield public(value)


def is_local(url: str) -> bool:
    """Whether an address names this machine or its private network."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost"


def check_url(url: str) -> str:
    """The address, or nothing where none was given. Raises UserError for one to which no request could go."""
    url, remedy, fault = url.strip(), "Give an address such as http://127.0.0.1:8000/v1", ""
    if not url:
        return url
    try:
        parts = urlsplit(url)
        (parts.hostname or "").encode("idna")
        fault = "" if parts.hostname and parts.port != 0 else "it names no host or no port"
    except ValueError:  # a port that is no number, half a bracket, a host without end
        fault = "its host or port cannot be read"
    if not re.match(r"https?:/", url, re.IGNORECASE):
        scheme = "http" if re.match(r"(localhost|[\d.]+)([:/]|$)", url) else "https"
        fault, remedy = "it has no scheme", f"Write {scheme}://{public(url.rpartition('://')[2])}"
    elif re.search(r"[\s\x00-\x1f\x7f]", url):
        fault = "it holds blanks"
    elif MASK in url and url == public(url):
        fault, remedy = "its password was left out when it was written down", "Give the address with --base_url again"
    if fault:
        raise UserError(f"{public(url)!r} is no address of an endpoint: {fault}", remedy=remedy)
    return url


def check_open(urls: str) -> str:
    """Addresses with commas between, of servers to which no password goes. Raises UserError for any other."""
    for url in map(check_url, urls.split(",")):
        if public(url) != url:
            remedy = (
                "Leave user, password and query out; a key for vLLM stands in the environment variable VLLM_API_KEY"
            )
            raise UserError(f"{public(url)!r} is more than the address of a server", remedy=remedy)
    return urls


def check_name(name: str) -> str:
    """The name of an environment variable, or nothing. Raises UserError for a key in its place, which it does not repeat."""
    if name and not re.fullmatch(r"(?!sk_|gsk_|hf_|gh[pousr]_|AIza)[A-Za-z_]\w*", name, re.ASCII):
        what = "the name of an environment variable is wanted, and this is none; a key itself is never given here"
        raise UserError(what, remedy="Put the key into an environment variable and give its name, e.g. OPENAI_API_KEY")
    return name


BaseUrl = Annotated[str, AfterValidator(check_url), PlainSerializer(public, when_used="json")]
OpenUrls = Annotated[str, AfterValidator(check_open)]
KeyName = Annotated[str, AfterValidator(check_name)]
