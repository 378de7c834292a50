"""Names that become folders and files, checked when they are read; and paths that must stay inside a folder."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from seethink.core.errors import UserError

LONGEST = 60  # characters; with four bytes each and a suffix, what a file system takes
ALLOWED = re.compile(r"\w(?:[\w .+=-]*[\w+=-])?")
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
RULE = f"Names have at most {LONGEST} letters, digits and . _ - + = or spaces, and begin with a letter or a digit"


def check_names(names: Iterable[str], key: str, where: object = "", taken: Iterable[str] = ()) -> None:
    """Refuse names that are no plain file names everywhere, or that some file systems take for each other.

    `key` is the setting that holds them, `where` its file; `taken` are names in use already. Raises UserError.
    """
    seen = {_folded(name): name for name in taken}
    for name in names:
        plain = ALLOWED.fullmatch(name) and len(name) <= LONGEST and not name.startswith("_")
        if not plain or name.partition(".")[0].strip().lower() in RESERVED:
            shown = name if len(name) <= LONGEST else f"{name[:LONGEST]}..."
            raise UserError(f"{key} has a name that cannot be a folder: {shown!r}", where=where, remedy=RULE)
        if _folded(name) in seen:
            what = f"{key} has {name!r} beside {seen[_folded(name)]!r}"
            raise UserError(what, where=where, remedy="Choose names that differ in more than capitals")
        seen[_folded(name)] = name


def inside(folder: Path, path: Path) -> None:
    """Raises UserError where `path`, links followed, lies outside `folder`."""
    home, real = Path(folder).resolve(), Path(path).resolve()
    if home != real and not real.is_relative_to(home):
        raise UserError(f"it lies outside {folder}, in {real}", where=path, remedy="Remove the link, or rename")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()
