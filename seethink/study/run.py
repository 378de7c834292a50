"""Run a study: prepare its files, check its plan, execute its stages.

seethink study @study.toml --out runs/study
"""

from __future__ import annotations

import shlex

from seethink.core.load import load_function
from seethink.core.store import write_json
from seethink.study.config import StudyConfig
from seethink.study.execute import execute
from seethink.study.plan import check, describe, plan


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
    write_json(config.out / "study.json", describe(config, stages))
    execute(stages, config.workers)
    return True
