"""Files that come with the package: `@paper/grpo.toml` is such a one where no file of that name lies here."""

from __future__ import annotations

import difflib
from pathlib import Path

SHIPPED = Path(__file__).parents[1] / "configs"


def here_or_shipped(path: Path) -> Path:
    """The file itself where there is one, else the shipped one of that name, else the path as it was given."""
    shipped = SHIPPED / path
    return shipped if not path.exists() and shipped.is_file() else path


def shipped_names(suffix: str = ".toml") -> list[str]:
    """Names after the @, sorted."""
    return sorted(p.relative_to(SHIPPED).as_posix() for p in SHIPPED.rglob(f"*{suffix}"))


def remedy_for(path: Path) -> str:
    """What a name that is no file was meant to be."""
    close = difflib.get_close_matches(path.as_posix().removeprefix("configs/"), shipped_names(), n=1, cutoff=0.6)
    return (
        f"Did you mean @{close[0]}, which is shipped?"
        if close
        else "Check the path; seethink help files lists what is shipped"
    )
