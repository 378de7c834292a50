"""Run a study: prepare its files, check its plan, execute its stages.

seethink study @study.toml --out runs/study
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from seethink.core.errors import UserError
from seethink.core.load import load_function
from seethink.core.overlap import overlap
from seethink.core.store import load_samples, write_json
from seethink.study.check import check, missing, said_of, unmatched, unused
from seethink.study.config import StudyConfig
from seethink.study.efforts import efforts_of
from seethink.study.execute import execute
from seethink.study.plan import data_of, describe, narrowed, plan, planned, source_of
from seethink.study.price import Pricing, say
from seethink.train.model.folder import check_folder


def run(config: StudyConfig, dry_run: bool = False) -> bool:
    """True once every stage is done. Raises UserError for a plan that does not hold or a stage that failed.

    The same call again continues. A dry run lists the stages, what is missing, and the price.
    """
    whole, config = config, narrowed(config)
    given = config
    for a, b in whole.comparisons:
        if [a, b] not in map(list, config.comparisons):
            print(f"  ! only leaves out the comparison {a} - {b}", file=sys.stderr)
    maker = config.prepare.function
    if maker:
        with said_of(config, "prepare", "function"):
            make = load_function(maker, "prepare.function")
        check(make(config, True), files=False)  # a mistyped setting shows before files are made for minutes
        config = make(config, dry_run)
    check(config, files=not dry_run)
    offered = {config.board, *config.data.values()} - {given.board, *given.data.values()}
    if dry_run:
        preview(config, offered)
        return False
    for text in unused(config, offered):
        print(f"  ! unused: {text}", file=sys.stderr)
    stages = plan(config)
    write_json(config.out / "study.json", {**describe(config, stages), "board_in_data": leaks(config)})
    execute(stages, config.workers, config.reuse)
    return True


def preview(config: StudyConfig, offered: Collection[Path]) -> None:
    """What would be made and run, what it takes, what is missing, and what the plan names for nothing.

    offered  files of its prepare function
    """
    planner = planned(config)
    unmade = [path.absolute() for path in (config.board, *config.data.values()) if not path.exists()]
    if config.prepare.function and unmade:
        print(f"to make the files of the plan by {config.prepare.function}, in {os.path.commonpath(unmade)}")
    for stage in planner.stages.values():
        print(f"{'done   ' if stage.done else 'to run '} {shlex.join(stage.command)}")
    print("every arm with what it starts from, as far as the plan says it:")
    for name in config.arms:
        spent = efforts_of(config, name).items()
        print(f"  {name}: " + ", ".join(f"{'unknown' if n is None else f'{n:,}'} {axis}" for axis, n in spent))
    for line in say(Pricing(config, planner)):
        print(line)
    for what, path, remedy in missing(config):
        made = path in offered or (config.prepare.function and path.resolve().is_relative_to(config.out.resolve()))
        print(f"to make: {what} {path}" if made else f"missing: {what} {path}. {remedy}")
    for path in (config.base, *config.bases.values()):
        try:
            check_folder(path)
        except UserError as error:
            print(f"missing: base {error}")
    for text in unused(config, offered):
        print(f"unused: {text}")
    for a, b, axes in unmatched(config):
        print(f"not matched: {a} and {b} on {axes}")


def leaks(config: StudyConfig) -> dict[str, int]:
    """How many items of the board stand in what arms are trained on: in a set, those of the data that it comes from."""
    trained = dict.fromkeys(name for arm in config.arms.values() for name in (data_of(arm), arm.demos) if name)
    sources = {name: source_of(config, name) for name in trained}
    found = {source: leaked(config, source) for source in dict.fromkeys(sources.values())}
    return {name: held for name, source in sources.items() if (held := found[source]) is not None}


def leaked(config: StudyConfig, name: str) -> int | None:
    """How many items of the board a data set holds, said at once; None where that cannot be read as it is."""
    with suppress(UserError):  # the stage that reads it says what is wrong
        board = load_samples(config.board)
        held = len(overlap(board, config.data[name]))
        if held:
            print(f"  ! {held} of {len(board)} board items stand in the training data {name}", file=sys.stderr)
        return held
    return None
