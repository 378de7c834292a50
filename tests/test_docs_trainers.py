"""docs/trl.md and docs/verl.md: the script trains, the function is called as the trainer calls it, their data come back."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from seethink import cli
from seethink.core.nouns import Sample
from seethink.core.shipped import SHIPPED
from seethink.core.store import load_samples, save_samples
from seethink.core.tags import compose
from seethink.pocket.build import build
from seethink.rewards.adapters import verl

ROOT = Path(__file__).parents[1]
BASE = ROOT / "seethink" / "pocket" / "base"
TINY = {
    "max_steps": 2, "per_device_train_batch_size": 4, "num_generations": 2, "max_completion_length": 12, "use_cpu": True,
    "report_to": [], "save_strategy": "no", "bf16": False, "disable_tqdm": True,
}  # fmt: skip


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def commands(text: str) -> list[list[str]]:
    return [shlex.split(line, comments=True)[1:] for line in re.findall(r"(?m)^seethink .*$", text)]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder in which we are, with what the pages name: rows, a board, a prompt and a base."""
    build(tmp_path / "world", seed=7, sft=0, rl=8, board=6, ood=0, unseen=0, old=0)
    for name, file in (("rl", "rl_pool"), ("board", "board")):
        save_samples(tmp_path / f"{name}.jsonl", load_samples(tmp_path / "world" / f"{file}.jsonl"))
    shutil.copy(SHIPPED / "paper" / "system.txt", tmp_path)
    (tmp_path / "Qwen2.5-VL-3B-Instruct").symlink_to(BASE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_script_trains_and_its_model_is_evaluated(here, monkeypatch):
    trl = pytest.importorskip("trl")
    transformers = pytest.importorskip("transformers")
    from trl_peer import ImageProcessor  # pyright: ignore[reportMissingImports]

    text = page("trl.md")
    check, export, imported, *evaluations = commands(text)
    assert cli.main(check) == 0 and cli.main(export) == 0
    (script,) = re.findall(r"(?s)```python\n# train_trl.py\n(.*?)```", text)

    def processor(folder, **_):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
        pictures = transformers.models.qwen2_vl.image_processing_pil_qwen2_vl.Qwen2VLImageProcessorPil.from_pretrained(
            folder
        )
        return ImageProcessor(pictures, tokenizer, tokenizer.chat_template)

    monkeypatch.setattr(transformers.AutoProcessor, "from_pretrained", processor)
    full = trl.GRPOConfig
    monkeypatch.setattr(trl, "GRPOConfig", lambda **given: full(**{**given, **TINY}))
    space: dict = {}
    exec(compile(script, "train_trl.py", "exec"), space)
    logged = space["trainer"].state.log_history
    assert len([row for row in logged if "rewards/seethink/mean" in row]) == 2
    assert any(key.startswith("seethink/status/") for row in logged for key in row)
    asked = space["rows"][0]["prompt"]
    assert asked[0]["role"] == "system" and "<answer>" in asked[0]["content"], "the prompt says how to answer"
    shutil.copy("rl-trl.jsonl", "their-data.jsonl")
    assert cli.main(imported) == 0 and [s.gold for s in load_samples(Path("theirs.jsonl"))] == [
        s.gold for s in load_samples(Path("rl.jsonl"))
    ]
    for command in evaluations:
        assert cli.main([*command, *(["--max_tokens", "8", "--limit", "4"] if command[1] != "compare" else [])]) == 0, (
            command
        )


def test_verl_calls_it_with_the_columns_of_its_rows(here):
    """As `RLHFDataset` and the reward managers hand them over: the columns of the parquet, lists as arrays of numpy."""
    text = page("verl.md")
    for command in commands(text)[:2]:
        assert cli.main(command) == 0
    assert "custom_reward_function.name=compute_score" in text and "rewards/adapters/verl.py" in text
    spec = importlib.util.spec_from_file_location("by_path", verl.__file__)  # verl loads the file by its path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rows = pq.read_table("rl.parquet").to_pylist()
    assert len(rows) == 8 and rows[0]["prompt"][0]["role"] == "system"
    for row in rows:
        extra = {
            key: np.array(value, object) if isinstance(value, list) else value
            for key, value in row["extra_info"].items()
        }
        told = module.compute_score(
            data_source=row["data_source"],
            solution_str=compose("I look.", row["reward_model"]["ground_truth"]),
            ground_truth=row["reward_model"]["ground_truth"],
            extra_info=extra,
        )
        assert told["score"] == 1.0 and set(told) == {"score", "status", "answer"}
        nothing = module.compute_score(row["data_source"], "no tags", row["reward_model"]["ground_truth"], extra)
        assert (nothing["score"], nothing["status"]) == (0.0, "no_format")


def test_a_reward_of_ones_own_and_the_undecided_in_verl(here):
    Path("my_rewards.py").write_text("def reward(sample, answer):\n    return None if answer == '?' else 0.25\n")
    asked = dict(data_source="s", ground_truth="7", extra_info={"kind": "digit"}, custom="my_rewards.py:reward")
    assert verl.compute_score(solution_str=compose("", "1"), **asked)["score"] == 0.25
    assert verl.compute_score(solution_str=compose("", "?"), undecided="zero", **asked)["score"] == 0.0
    with pytest.raises(Exception, match="has no reward"):
        verl.compute_score(solution_str=compose("", "?"), **asked)


def test_what_verl_was_given_is_read_back(here):
    save_samples(Path("rl.jsonl"), [*load_samples(Path("rl.jsonl")), Sample("x", "s", (), "How many?", "3", "digit")])
    first, second, third, *_ = commands(page("verl.md"))
    assert cli.main(first) == 0 and cli.main(second) == 0 and cli.main(third) == 0
    golds = [(s.id, s.gold, s.kind) for s in load_samples(Path("theirs.jsonl"))]
    assert golds == [(s.id, s.gold, s.kind) for s in load_samples(Path("rl.jsonl"))]
    assert json.loads(Path("theirs.jsonl").read_text().splitlines()[0])["question"]
