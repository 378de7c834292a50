"""docs/study.md: its table of keys is that of the code, and its example says what the page says of it.

That its commands run, the example to its report, is a matter of tests/test_docs.py.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

from seethink.cli import main
from seethink.core.config import resolve
from seethink.study.config import StudyConfig
from seethink.study.plan import plan
from tests.docs_world import BASE, World, files

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "study.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_table_has_every_key_of_a_plan():
    sys.path.insert(0, str(ROOT / "docs"))
    from render import study_page

    assert study_page(TEXT) == TEXT, "render it: python docs/render.py"
    for name, field in StudyConfig.model_fields.items():
        assert f"| `{name}` |" in TEXT or f"**`[{name}]`**" in TEXT or f"**`[{name}.NAME]`**" in TEXT, name
        for inner in getattr(field.annotation, "model_fields", {}):
            assert f"| `{inner}` |" in TEXT, inner


def test_every_example_is_planned(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    World(tmp_path, "http://127.0.0.1:9").write(files(PAGE))
    (tmp_path / "my_rewards.py").write_text("def reward(sample, answer):\n    return 0.5\n")
    plans = [name for name in files(PAGE) if name.endswith(".toml") and "stage" in files(PAGE)[name]]
    assert len(plans) == 4
    for name in plans:
        assert main(["study", f"@{name}", "--out", "x", "--dry-run"]) == 0, capsys.readouterr().err
        assert "missing" not in capsys.readouterr().out
    config = resolve(StudyConfig, ["@my-study.toml", "--out", "x"])
    stages = {(stage.arm, stage.name): stage for stage in plan(config)}
    assert len(plan(config)) == 1 + 3 * (3 * 2), "the base once; three arms, trained and evaluated under three seeds"
    after = stages["sft+grpo", "grpo"].settings
    assert after["model"]["path"].endswith("arms/sft/seed2/sft/model") and after["model"]["freeze_vision"] is True
    assert stages["grpo", "grpo"].settings["model"]["path"] == "Qwen2.5-VL-3B-Instruct" and BASE.is_dir()


def test_axes_of_effort_are_those_of_the_code():
    from seethink.study.matched import AXES

    said = re.search(r"counted on (\w+) axes: (.*?)\.", TEXT)
    assert said and said[2].split(", ") == list(AXES) and said[1] == "seven" and len(AXES) == 7


def test_one_place_for_one_fact():
    """The page of the shipped questions and this one link one another."""
    assert "(studies.md)" in TEXT and "(study.md)" in (ROOT / "docs" / "studies.md").read_text()
    tomllib.loads(files(PAGE)["my-study.toml"])
