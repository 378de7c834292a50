"""Data sets that a study makes itself, by a verb, before the arms that train on them: which file comes out, and what goes in.

Only names of files: nothing is read here, so that a plan can be checked before any of its sets exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seethink.core.errors import UserError
from seethink.data.config import SELECTED
from seethink.train.config import SelectConfig, subset_file

NAMING = {"curate": ("scores", "from_scores", "same_questions_as")}
"""Settings of a verb that are files or run folders, for which a plan may give the names of its sets and data."""


def made_file(verb: str, out: Path, settings: Mapping[str, Any]) -> Path:
    """What other stages read of the run folder `out`: of curate and select a JSONL, of eval the folder with its scores.

    `settings` are those of the verb. Raises UserError where they make none or several files, or for another verb.
    """
    if verb == "eval":
        return out
    if verb == "curate":
        return out / SELECTED
    if verb != "select":
        raise UserError(f"{verb!r} makes no data set", remedy="Use curate, select or eval")
    sizes = settings.get("sizes", ())
    sizes = sizes if isinstance(sizes, list | tuple) else [sizes]
    if len(set(sizes)) != 1:
        what = f"select with sizes = {list(sizes)} makes {len(set(sizes))} files"
        raise UserError(what, remedy="A data set is one file: give one size, and each further size a set of its own")
    choose = settings.get("choose", SelectConfig.model_fields["choose"].default)
    return out / subset_file(choose, sizes[0])
