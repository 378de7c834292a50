"""The pocket study: the world, its traces through the six steps, and then the ordinary study on these files.

    seethink study            the settings are study.toml beside this file

The simulated teacher is asked over HTTP on loopback by the same client as any endpoint. Every teacher distils the same
questions; the SFT sets hold those that all of them kept, so that arms differ in the teacher and in nothing else. Teachers differ
in style, in truth, or in both (teacher.py): the hesitant one leaves false statements standing, which the careful one does not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seethink.core.config import build
from seethink.core.names import inside
from seethink.core.run import Run
from seethink.core.store import hash_file, hash_json, read_record, save_examples, write_json
from seethink.data import pipeline
from seethink.data.config import DataConfig
from seethink.data.kept import load_kept
from seethink.pocket import build as world_files
from seethink.pocket.config import PretrainConfig, World
from seethink.pocket.server import CAPTIONER, JUDGE, REWRITER, Teacher
from seethink.study.config import FurtherEval, StudyConfig

PACKAGE = Path(__file__).parent
BASE, PROMPTS = PACKAGE / "base", PACKAGE / "prompts"
CODE = (".py", ".txt", ".jinja")
SHIPPED = ("zero", "base-b")
"""Further bases that come with the package: the base before its last stage, and one from another seed."""
PUPILS: dict[str, dict[str, Any]] = {"small": {"size": "small"}, "large": {"size": "large"}}
"""Further bases that are built when a plan names them: name -> settings of `seethink pocket pretrain`."""


def prepare(config: StudyConfig, dry_run: bool = False) -> StudyConfig:
    """The plan with its files: world, traces of each style, SFT sets of equal questions.

    Finished parts stay as they are, and so does whatever the user gave. Raises UserError for an unknown setting.
    """
    world = build(World, config.prepare.settings, where=config.place("prepare", "settings"))
    home = home_of(config.out, world)
    if not dry_run:
        make_files(home, world)
    files = {"rl": "rl_pool.jsonl", "sft_pool": "sft_pool.jsonl", "old": "old.jsonl"}
    data = {name: home / "world" / file for name, file in files.items()}
    data |= {style: home / "data" / f"{style}.jsonl" for style in world.teachers}
    rows = {"rl": world.rl, "sft_pool": world.sft, "old": world.old, "board": world.board + world.unseen + world.ood}
    rows |= dict.fromkeys(world.teachers, world.examples)
    return config.model_copy(
        update={
            "throughput": config.throughput.model_copy(update={"rows": {**rows, **config.throughput.rows}}),
            "board": config.board if config.board != Path() else home / "world" / "board.jsonl",
            "base": config.base if config.base != Path() else BASE,
            "bases": {name: find_base(config.out, name, path, dry_run) for name, path in config.bases.items()},
            "data": {**data, **config.data},
            "evals": {name: _cued(further) for name, further in config.evals.items()},
        }
    )


def make_files(home: Path, world: World) -> None:
    """World, traces and SFT sets; nothing is made where the same settings and the same code have made all of them."""
    files = ["world/done.json", *(f"data/{style}.jsonl" for style in world.teachers)]
    # code of all rooms: the six steps and the rewards that verify a trace lie elsewhere
    made, key = home / "made.json", hash_json([world.model_dump(mode="json"), _hash_code(PACKAGE.parent)])
    record = read_record(made) if made.exists() and all((home / file).exists() for file in files) else {}
    if record.get("key") != key:
        record = {"key": key, "examples": _make_files(home, world)}
        write_json(made, record)
    if record["examples"] < world.examples:
        few, wanted = record["examples"], world.examples
        print(f"  ! {few} questions were kept from every teacher, fewer than the {wanted} examples asked for")


def _make_files(home: Path, world: World) -> int:
    """How many examples a style has."""
    make_world(home / "world", world)
    with Teacher(home / "world", seed=world.seed) as teacher:
        for style, model in world.teachers.items():
            roles = {"captioner": CAPTIONER, "reasoner": model, "rewriter": REWRITER, "judge": JUDGE}
            settings: dict[str, Any] = {role: {"model": name} for role, name in roles.items()}
            settings |= {"source": home / "world" / "sft_pool.jsonl", "out": home / "data" / style}
            pipeline.run(build(DataConfig, {**settings, "base_url": teacher.base_url, "overwrite": True}))
    return match_examples(home / "data", world)


def _hash_code(root: Path) -> str:
    """Of every file below a folder that decides what it makes."""
    files = sorted(file for file in root.rglob("*") if file.suffix in CODE and file.is_file())
    return hash_json([[str(file.relative_to(root)), hash_file(file)] for file in files])


def home_of(out: Path, world: World) -> Path:
    """Where the files of a study lie: with it, or, shared, in a folder beside it that other settings or other code do not share."""
    if not world.shared:
        return out
    return out.parent / "pocket-worlds" / hash_json([world.model_dump(mode="json"), _hash_code(PACKAGE)])[:8]


def _cued(further: FurtherEval) -> FurtherEval:
    """With the system prompt of this package that it names, if it names one."""
    file = PROMPTS / str(further.set.get("system") or "-")
    return further.model_copy(update={"set": {**further.set, "system": f"@{file}"}}) if file.is_file() else further


def find_base(out: Path, name: str, given: Path, dry_run: bool) -> Path:
    """The model of a named base: the one given, the one that ships, or one that is now built beside the study (PUPILS)."""
    if given != Path() or name not in (*SHIPPED, *PUPILS):
        return given
    if name in SHIPPED:
        return PACKAGE / name
    # its code in the name: a base that other code built speaks other words
    school = out.parent / "pocket-bases" / f"{name}-{_hash_code(PACKAGE)[:8]}"
    if not dry_run and not (school / "done.json").exists():
        print(f"base {name}: built once in {school}, about 20 minutes of one core", flush=True)
        from seethink.pocket.pretrain import run as pretrain  # torch is slow to import

        pretrain(PretrainConfig(out=school, **PUPILS[name]))
    return school / "model"


def make_world(out: Path, world: World) -> None:
    """Pictures, pools and board; a change of the settings or of the code that draws makes them anew."""
    inside(out.parent, out)
    settings = world.model_copy(update={"teachers": {}, "examples": 1})
    code = world_files.hash_code(world_files.DRAWING)
    with Run.open(out, "pocket build", settings, {"code": code}, overwrite=True) as folder:
        if not folder.done:
            rows = world_files.build(out, world.seed, dry_run=False, **world.sizes)
            folder.finish(**rows)


def match_examples(data: Path, world: World) -> int:
    """<style>.jsonl with the same questions in the same order for every style; how many."""
    kept = {style: {k.sample.id: k for k in load_kept(data / style / "traces.jsonl")} for style in world.teachers}
    first = next(iter(kept.values()), {})
    common = [i for i in first if all(i in rows for rows in kept.values())][: world.examples]
    for style, rows in kept.items():
        save_examples(data / f"{style}.jsonl", (rows[i].example for i in common))
    return len(common)
