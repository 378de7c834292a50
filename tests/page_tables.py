"""A page read back as a reader sees it: its tables by caption, and its text outside of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

SILENT = {"style", "svg", "script", "title"}  # charts are looked at, not read
VOID = {"meta", "link", "img", "br", "hr", "input"}


@dataclass
class Cell:
    """Text of a cell, and the small print under it."""

    text: str = ""
    small: list[str] = field(default_factory=list)


@dataclass
class Table:
    """Headings, and rows of cells; a row begins with its name."""

    headings: list[Cell] = field(default_factory=list)
    rows: list[list[Cell]] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        return [cell.text for cell in self.headings]


def plain(text):
    """On one line; the thin spaces of numbers stay."""
    return re.sub(r"[ \n\t]+", " ", text).strip(" ")


class Page(HTMLParser):
    """`tables`: caption (aria-label of its box) -> table; `sections`: id -> its text outside of tables."""

    def __init__(self, page: str):
        super().__init__()
        self.tables: dict[str, Table] = {}
        self.sections: dict[str, str] = {"": ""}
        self.open: list[str] = []
        self.section, self.caption, self.cell = "", "", None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self.section = given["id"]
            self.sections[self.section] = ""
        if given.get("role") == "region":
            self.caption = given["aria-label"]
        if tag == "table":
            assert self.caption not in self.tables, f"two tables are called {self.caption}"
            self.tables[self.caption] = Table()
        if tag == "tr" and "tbody" in self.open:
            self.tables[self.caption].rows.append([])
        if tag in ("td", "th"):
            self.cell = Cell()
            table = self.tables[self.caption]
            (table.rows[-1] if "tbody" in self.open else table.headings).append(self.cell)
            self.cells = int(given.get("colspan", 1))
        if tag == "small" and self.cell:
            self.cell.small.append("")

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            continue
        if tag in ("td", "th"):
            self.cell.text = plain(self.cell.text)
            self.cell.small = [plain(text) for text in self.cell.small]
            self.cell = None

    def handle_data(self, data):
        if SILENT & set(self.open):
            return
        if self.cell is None:
            self.sections[self.section] += data
        elif "small" in self.open:
            self.cell.small[-1] += data
        else:
            self.cell.text += data
