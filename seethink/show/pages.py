"""What every page needs: templates with escaping on, numbers as text, pictures that travel with the page."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import re
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from seethink.core.errors import UserError
from seethink.core.images import open_image, portable
from seethink.core.stats import Interval
from seethink.core.terminal import clean, one_line

SIDE = 640  # pictures are shown no larger than this many pixels
SMALL = 60_000  # bytes up to which a picture is embedded as it is
MIME = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}
MISSING = Markup('<span class="missing">not measured</span>')


def environment(markdown: bool = False) -> jinja2.Environment:
    """Templates of this package, HTML or Markdown: what is no Markup is escaped. An undefined name is an error."""
    loader = jinja2.PackageLoader("seethink.show", "templates")
    pages = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    if markdown:
        pages.finalize = markdown_text
    pages.filters |= {
        "percent": percent, "points": points, "limits": limits, "number": number, "duration": duration,
        "atleast": at_least, "markdown": markdown_text, "fenced": fenced,
    }  # fmt: skip
    return pages


def markdown_text(value: Any) -> Any:
    """Text as Markdown that shows it on one line: no HTML, link, emphasis, table cell, list or formula comes of it."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    text = re.sub(r"([\\`*_{}\[\]|~$]|(?<=\])\()", r"\\\1", html.escape(one_line(value), quote=False))
    text = re.sub(
        r"(?i)\b(https?|ftp|mailto|xmpp):|\b(www)\.|@", lambda m: f"{m[0][:-1]}\\{m[0][-1]}", text
    )  # found by themselves
    return Markup(re.sub(r"^(\s*\d*)(?=[-+#=](?!\d)|[.)](?:\s|$))", r"\1\\", text))  # a list, a heading, a rule


def fenced(text: str) -> Markup:
    """Lines as a block of code; one that could be taken for HTML, or for the end of the block, as escaped HTML."""
    text = clean(text)
    plain = not re.search("[<&]|```", text)
    return Markup(f"```\n{text}\n```") if plain else Markup(f"<pre><code>{html.escape(text)}\n</code></pre>")


def asset(name: str) -> Markup:
    """A stylesheet or script of this package, to be put into a page as it is."""
    return Markup((Path(__file__).parent / "templates" / name).read_text(encoding="utf-8"))


def percent(share: float | None) -> str:
    return MISSING if share is None else f"{100 * share:.1f}"


def points(difference: float | None) -> str:
    """A difference of shares in percentage points, always with its sign."""
    return MISSING if difference is None else _minus(f"{round(100 * difference, 1) + 0.0:+.1f}")


def limits(interval: Interval | None, scale: float = 100, digits: int = 1) -> Markup:
    """[low, high]; empty without an interval, because the estimate beside it says so already."""
    if interval is None:
        return Markup()
    low, high = (number(scale * value, digits) for value in (interval.low, interval.high))
    return Markup(f"[{low}, {high}]")


def at_least(value: float | None, digits: int = 1) -> str:
    """A number that is never shown as 0, because it is none."""
    smallest = 10.0**-digits
    return f"< {smallest:g}" if value is not None and value < smallest / 2 else number(value, digits)


def number(value: float | None, digits: int = 0) -> str:
    """With thin spaces between thousands."""
    if value is None:
        return MISSING
    rounded = round(value, digits) + 0.0  # no negative zero
    return _minus(f"{rounded:,.{digits}f}").replace(",", "\u202f")


def duration(seconds: float | None) -> str:
    if seconds is None:
        return MISSING
    hours, rest = divmod(round(seconds), 3600)
    if hours:
        return f"{hours} h {rest // 60:02d} min"
    return f"{rest // 60} min {rest % 60:02d} s" if rest >= 60 else f"{rest} s"


def picture_uri(path: str) -> str | None:
    """A picture as a data: address; None where it cannot be read."""
    shown = _shown(path)
    return None if shown is None else _address(*shown)


def thumbnail_uri(path: str, most: int) -> str | None:
    """A picture as a data: address of at most `most` characters, as large as that lets it be; None where it cannot be read."""
    try:
        data, suffix = portable(path)
        shown = _address(data, suffix)
        image = open_image(path) if len(shown) > most else None
    except UserError:
        return None
    side = SIDE * 2
    while image and len(shown) > most and side >= 48:
        image.thumbnail((side, side))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=75)
        shown, side = _address(buffer.getvalue(), ".jpg"), side * 3 // 4
    return shown


def copy_picture(path: str, folder: Path) -> str | None:
    """Copy a picture into a folder under the hash of what is shown; its file name, or None where it cannot be read."""
    shown = _shown(path)
    if shown is None:
        return None
    data, suffix = shown
    target = folder / (hashlib.blake2b(data, digest_size=8).hexdigest() + suffix)
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return target.name


def _shown(path: str) -> tuple[bytes, str] | None:
    """(bytes, suffix) of a picture, decoded: a small one as it is, a larger one shrunk. None where it cannot be read."""
    try:
        data, suffix = portable(path)
        if len(data) <= SMALL:
            return data, suffix
        image = open_image(path)
    except UserError:
        return None
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue(), ".jpg"


def _address(data: bytes, suffix: str) -> str:
    return f"data:{MIME[suffix]};base64,{base64.b64encode(data).decode()}"


def _minus(text: str) -> str:
    return text.replace("-", "−")
