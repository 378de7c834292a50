"""Names and code that come with data: a name is a folder and not a path, and code runs only where a person names it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seethink import cli
from seethink.core.config import Config
from seethink.core.errors import UserError
from seethink.core.load import load_function
from seethink.core.names import check_names, inside
from seethink.core.run import Run
from seethink.core.store import read_json, write_json
from seethink.pocket.config import World
from seethink.show.report import ReportConfig, run
from seethink.study.check import check
from seethink.study.config import Arm, RanStudy, StudyConfig
from seethink.study.folder import load_study
from tests import synthetic_study

ROOT = Path(__file__).parents[1]
PATHS = ["../../../escaped", "..", ".", "", "/tmp/x", "a/b", "a\\b", ".hidden", "-rf", "a\nb", "a\0b", "x" * 61, "con", "NUL.txt",
         "a.", "a ", " a", "~", "a:b", "a*", "$x_{$", "arm[/red]", "\x1b[31m", "a\u202eb", "_", "a,b"]  # fmt: skip


@pytest.mark.parametrize("name", ["grpo", "sft-hesitant+grpo", "lr=1e-5", "25k best", "v1.2_b", "ähnlich", "思考"])
def test_plain_names_are_taken(name):
    check_names([name], "arms")


@pytest.mark.parametrize("name", PATHS)
def test_a_name_is_no_path(name):
    with pytest.raises(UserError, match=r"plan\.toml: arms has a name that cannot be a folder"):
        check_names([name], "arms", "plan.toml")


@pytest.mark.parametrize("names", [["GRPO", "grpo"], ["Base"], ["ﬁne", "fine"]])
def test_names_differ_in_more_than_capitals(names):
    with pytest.raises(UserError, match="beside"):
        check_names(names, "arms", taken=["base"])


@pytest.mark.parametrize(
    ("toml", "key"),
    [
        ('[arms."../../../escaped"]\nstage = "grpo"', "arms"),
        ('[arms.base]\nstage = "grpo"', "arms"),
        ('[evals."../x"]', "evals"),
    ],
)
def test_a_plan_is_refused_when_it_is_read(tmp_path, capsys, toml, key):
    plan = tmp_path / "plan.toml"
    plan.write_text(toml)
    assert cli.main(["study", f"@{plan}", "--out", str(tmp_path / "runs" / "study")]) == 2
    assert capsys.readouterr().err.startswith(f"seethink: {plan}: {key} has ")
    assert [p.name for p in tmp_path.iterdir()] == ["plan.toml"]


def test_styles_of_the_pocket_world_are_names():
    with pytest.raises(UserError, match="teachers has a name"):
        World(teachers={"../x": "pocket-r1-concise"})


def test_a_mistake_names_the_file_that_made_it(tmp_path, capsys):
    first, second = tmp_path / "a.toml", tmp_path / "b.toml"
    first.write_text("workers = -1")
    second.write_text('label = "x"')
    assert cli.main(["study", f"@{first}", f"@{second}"]) == 2
    assert capsys.readouterr().err.startswith(f"seethink: {first}: workers = -1")
    assert cli.main(["study", f"@{first}", f"@{second}", "--workers", "-2"]) == 2
    assert capsys.readouterr().err.startswith("seethink: workers = -2")


def config(out: Path, **changes) -> StudyConfig:
    for name in ("board", "rl"):
        (out.parent / name).mkdir(exist_ok=True)
    files = {"base": Path(__file__).parents[1] / "seethink" / "pocket" / "base", "board": out.parent / "board"}
    return StudyConfig(
        out=out, **files, data={"rl": out.parent / "rl"}, **{"arms": {"x": Arm(stage="grpo")}, **changes}
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"arms": {"x": Arm(stage="grpo", set={"out": "/tmp/elsewhere"})}},
            r"arms\.x\.set\.out is not the plan's to say",
        ),
        ({"grpo": {"overwrite": False}}, r"grpo\.overwrite is not"),
        ({"eval": {"out": "elsewhere"}}, r"eval\.out is not"),
        ({"seeds": [0, 0]}, "seeds"),
        ({"seeds": [-1]}, "seeds"),
        ({"seeds": []}, "seeds"),
        ({"comparisons": [("x", "x")]}, "with itself"),
    ],
)
def test_a_stage_has_one_folder_and_that_is_the_studys(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        check(config(tmp_path / "study", **changes))


def test_a_link_does_not_lead_out_of_the_study(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "study" / "arms").mkdir(parents=True)
    (tmp_path / "study" / "arms" / "x").symlink_to(elsewhere)
    with pytest.raises(UserError, match="lies outside"):
        check(config(tmp_path / "study"))
    (tmp_path / "link").symlink_to(tmp_path / "study")  # the study folder itself may be one
    inside(tmp_path / "link", tmp_path / "study" / "arms" / "y")


class Settings(Config):
    n: int = 1


def test_starting_afresh_leaves_what_a_link_points_to(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("x")
    with Run.open(tmp_path / "run", "eval", Settings(), {}) as run:
        run.path("link").symlink_to(tmp_path / "kept")
    Run.open(tmp_path / "run", "eval", Settings(n=2), {}, overwrite=True).__exit__()
    assert (tmp_path / "kept" / "file").exists() and not (tmp_path / "run" / "link").exists()


@pytest.mark.parametrize("manifest", ["{}", "[]", '{"name": "an app"}'])
def test_a_folder_of_something_else_is_never_emptied(tmp_path, manifest):
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(UserError, match="none of ours"):
        Run.open(tmp_path, "eval", Settings(), {}, overwrite=True)
    assert (tmp_path / "manifest.json").read_text() == manifest


@pytest.mark.parametrize("name", ["../grpo", "..", "", "/etc"])
def test_a_finished_study_is_read_inside_its_folder(tmp_path, name):
    arms = {"base": synthetic_study.ARMS["base"]}
    folder = synthetic_study.build(tmp_path / "study", seeds=(0,), items=5, arms=arms)
    plan = read_json(folder / "study.json")
    write_json(folder / "study.json", {**plan, "arms": {**plan["arms"], name: {"stages": ["grpo"]}}})
    with pytest.raises(UserError, match="is no folder of this study"):
        load_study(folder)


WRONG = [None, 3, [["x"]], [["base", "nobody"]], {"x": 1}, {"../x": {"stages": []}}]


@pytest.mark.parametrize("value", WRONG, ids=str)
@pytest.mark.parametrize("key", [*RanStudy.model_fields, "seeds", "simulated"])
def test_a_study_json_of_any_shape_is_read_or_refused(tmp_path_factory, study, key, value):
    folder = tmp_path_factory.mktemp("copy")
    (folder / "arms").symlink_to(study / "arms")
    write_json(folder / "study.json", {**read_json(study / "study.json"), key: value})
    try:
        run(ReportConfig(study=folder, gallery=0))
    except UserError as error:
        assert str(error).startswith(str(folder / "study.json"))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    arms = {name: synthetic_study.ARMS[name] for name in ("base", "grpo")}
    return synthetic_study.build(tmp_path_factory.mktemp("study") / "s", seeds=(0,), items=3, arms=arms, steps=2)


@pytest.mark.parametrize("verb", ["view", "report"])
def test_code_that_data_names_runs_only_when_a_person_names_it(tmp_path, verb):
    arms = {name: synthetic_study.ARMS[name] for name in ("base", "grpo")}
    folder = synthetic_study.build(tmp_path / "study", seeds=(0,), items=5, arms=arms)
    (folder / "evil.py").write_text("open('ran', 'w')\ndef check(sample, thinking): return []\n")
    write_json(folder / "study.json", {**read_json(folder / "study.json"), "checker": "evil:check"})
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def call(*more: str) -> str:
        command = [sys.executable, "-m", "seethink", verb, ".", *more]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout

    assert "the study names evil:check, which runs only if you do: --checker evil:check" in call()
    assert not (folder / "ran").exists()
    assert "the study names" not in call("--checker", "evil:check")
    assert (folder / "ran").exists()


@pytest.mark.parametrize("name", ["x", "x:", ":x", "../x:check", ".x:check", "x y:check", "os:no_such_function"])
def test_a_function_is_named_by_module_and_name(name):
    with pytest.raises(UserError, match="checker|function"):
        load_function(name, "checker")
