"""Run a study: prepare its files, check its plan, execute its stages.

seethink study @study.toml --out runs/study
"""

from __future__ import annotations

import shlex
import sys
from contextlib import suppress

from seethink.core.errors import UserError
from seethink.core.load import load_function
from seethink.core.overlap import overlap
from seethink.core.store import load_samples, write_json
from seethink.study.config import StudyConfig
from seethink.study.execute import execute
from seethink.study.plan import check, data_of, describe, plan


def run(config: StudyConfig, dry_run: bool = False) -> bool:
    """True once every stage is done. Raises UserError for a plan that does not hold or a stage that failed.

    The same call again continues.
    """
    maker = config.prepare.function
    if maker:
        make = load_function(maker, "prepare.function")
        check(make(config, True), files=False)  # a mistyped setting shows before files are made for minutes
        config = make(config, dry_run)
    check(config, files=not (maker and dry_run))
    stages = list(plan(config))
    if dry_run:
        if maker and not config.board.exists():
            print(f"to make the files of the plan by {maker}, in {config.out}")
        for stage in stages:
            print(f"{'done   ' if stage.done else 'to run '} {shlex.join(stage.command)}")
        return False
    leaks = {
        name: held
        for name in sorted(set(map(data_of, config.arms.values())))
        if (held := leaked(config, name)) is not None
    }
    write_json(config.out / "study.json", {**describe(config, stages), "board_in_data": leaks})
    execute(stages, config.workers)
    return True


def leaked(config: StudyConfig, name: str) -> int | None:
    """How many items of the board a data set holds, said at once; None where that cannot be read as it is."""
    with suppress(UserError):  # the stage that reads it says what is wrong
        board = load_samples(config.board)
        held = len(overlap(board, config.data[name]))
        if held:
            print(f"  ! {held} of {len(board)} board items stand in the training data {name}", file=sys.stderr)
        return held
    return None
