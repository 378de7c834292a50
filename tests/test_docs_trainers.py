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
from seethink.core.errors import UserError
from seethink.core.nouns import Sample
from seethink.core.shipped import SHIPPED
from seethink.core.store import load_samples, save_samples
from seethink.core.tags import compose
from seethink.pocket.build import build
from seethink.rewards import score
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
        assert told["score"] == 1.0 and set(told) == {"score", "undecided", "status", "answer"}
        nothing = module.compute_score(row["data_source"], "no tags", row["reward_model"]["ground_truth"], extra)
        assert (nothing["score"], nothing["status"]) == (0.0, "no_format")


def test_a_reward_of_ones_own_and_the_undecided_in_verl(here):
    Path("my_rewards.py").write_text("def reward(sample, answer):\n    return None if answer == '?' else 0.25\n")
    asked = dict(data_source="s", ground_truth="7", extra_info={"kind": "digit"}, custom="my_rewards.py:reward")
    assert verl.compute_score(solution_str=compose("", "1"), **asked)["score"] == 0.25
    assert verl.compute_score(solution_str=compose("", "?"), undecided="zero", **asked)["score"] == 0.0
    with pytest.raises(Exception, match="has no reward"):
        verl.compute_score(solution_str=compose("", "?"), **asked)


def test_settings_of_verl_may_be_tables_of_another_class():
    from types import MappingProxyType  # as little a dict as the tables of OmegaConf

    case = dict(data_source="s", solution_str=compose("", "7"), ground_truth="7", extra_info={"kind": "digit"})
    assert verl.compute_score(**case, kind_scale=MappingProxyType({"digit": 0.5}))["score"] == 0.5
    for word in ("none", "zeros"):
        with pytest.raises(UserError, match="verl cannot be told"):
            verl.compute_score(**case, undecided=word)


def test_what_verl_was_given_is_read_back(here):
    save_samples(Path("rl.jsonl"), [*load_samples(Path("rl.jsonl")), Sample("x", "s", (), "How many?", "3", "digit")])
    first, second, third, *_ = commands(page("verl.md"))
    assert cli.main(first) == 0 and cli.main(second) == 0 and cli.main(third) == 0
    golds = [(s.id, s.gold, s.kind) for s in load_samples(Path("theirs.jsonl"))]
    assert golds == [(s.id, s.gold, s.kind) for s in load_samples(Path("rl.jsonl"))]
    assert json.loads(Path("theirs.jsonl").read_text().splitlines()[0])["question"]


def verl_config(*more: str):
    """verl's own configuration under the command of the page, as its main program composes it."""
    from hydra import compose as composed  # pyright: ignore[reportMissingImports]
    from hydra import initialize_config_module  # pyright: ignore[reportMissingImports]

    (command,) = re.findall(r"(?s)python -m verl\.trainer\.main_ppo \\\n(.*?)```", page("verl.md"))
    given = shlex.split(re.sub(r"\$\(python .*\)", verl.__file__, command).replace("\\\n", " "))
    with initialize_config_module("verl.trainer.config", version_base=None):
        return composed("ppo_trainer", [*given, f"actor_rollout_ref.model.path={BASE}", *more])


def verl_batch(rows: list[dict], responses: list[str]):
    """The batch of verl in which row n got response n: prompts padded on the left, responses on the right."""
    import torch
    from transformers import AutoTokenizer
    from verl import DataProto  # pyright: ignore[reportMissingImports]

    tokens = AutoTokenizer.from_pretrained(BASE)
    prompt = torch.tensor([[tokens.pad_token_id, *tokens.encode("What?")]] * len(rows))
    ids = [torch.tensor([*tokens.encode(text), tokens.eos_token_id]) for text in responses]
    padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=tokens.pad_token_id)
    seen = [torch.tensor([0] + [1] * (prompt.shape[1] - 1) + [1] * len(i)) for i in ids]
    mask = torch.nn.utils.rnn.pad_sequence(seen, batch_first=True)
    columns = {
        key: np.array([row[key] for row in rows], object) for key in ("data_source", "reward_model", "extra_info")
    }
    return DataProto.from_dict({"prompts": prompt, "responses": padded, "attention_mask": mask}, columns), tokens


VERL = "verl is not installed beside seethink: it needs an environment of its own"


@pytest.fixture
def asked(here):
    """(sample, response, row of our export) of right, wrong, malformed and undecided answers in words of the base."""
    bad = Sample("bad", "s", (), "How many?", "nonsense", "box")  # no answer can be judged by this gold
    samples = [*load_samples(Path("rl.jsonl")), bad]
    save_samples(Path("rl.jsonl"), samples)
    assert cli.main(commands(page("verl.md"))[1]) == 0
    rows = pq.read_table("rl.parquet").to_pylist()
    texts = ["A", compose("look", ""), compose("look", "A B"), compose("look", "(0, 92),(20, 112)")]
    cases = [(s, t, r) for s, r in zip(samples, rows, strict=True) for t in [compose("look", s.gold), *texts]]
    return [(s, t, {**r, "extra_info": dict(r["extra_info"])}) for s, t, r in cases]


def verl_rewards(asked: list[tuple], *more: str):
    """What verl's worker says of every answer and the rewards of its batch, and our own of the same texts."""
    from verl.experimental.reward_loop import RewardLoopWorker  # pyright: ignore[reportMissingImports]

    batch, tokens = verl_batch([row for *_, row in asked], [text for _, text, _ in asked])
    worker = RewardLoopWorker(verl_config(*more))
    told = worker.loop.run_until_complete(worker.compute_score_batch(batch))
    paid = worker.reward_manager.assemble_rm_scores(batch, [answer["reward_score"] for answer in told]).sum(1).tolist()
    heard = [tokens.decode(tokens.encode(text), skip_special_tokens=True) for _, text, _ in asked]
    ours = [score(sample, text) for (sample, *_), text in zip(asked, heard, strict=True)]
    assert {0.0, 1.0, None} <= {reward.value for reward in ours} and len({reward.status for reward in ours}) > 4
    return told, paid, ours


@pytest.mark.slow
@pytest.mark.parametrize("manager", ["naive", "dapo", "gdpo"])
def test_in_the_reward_loop_of_verl(asked, manager):
    """verl's configuration, loader, worker, managers and metrics, with nothing of ours between but the function."""
    pytest.importorskip("verl", reason=VERL)
    from verl.trainer.ppo.metric_utils import process_validation_metrics  # pyright: ignore[reportMissingImports]

    told, paid, ours = verl_rewards(asked, f"reward.reward_manager.name={manager}")
    infos = [answer["reward_extra_info"] for answer in told]
    assert paid == pytest.approx([reward.value or 0.0 for reward in ours])
    assert [info["score"] for info in infos] == [reward.value or 0.0 for reward in ours]
    assert [info["undecided"] for info in infos] == [float(reward.value is None) for reward in ours]
    assert [(i["status"], i["answer"]) for i in infos] == [(reward.status, reward.answer or "") for reward in ours]
    logged = {key: [info[key] for info in infos] for key in infos[0]}  # verl asks all for the keys of the first
    found = process_validation_metrics(["s"] * len(infos), [str(n) for n in range(len(infos))], logged)["s"]
    assert set(found) == {"score", "undecided"}, "numbers have a mean in verl's log, texts none"
    assert found["undecided"]["mean@1"] == pytest.approx(sum(reward.value is None for reward in ours) / len(ours))


@pytest.mark.slow
def test_an_undecided_answer_stops_verl_unless_its_manager_hides_errors(asked):
    pytest.importorskip("verl", reason=VERL)
    strict = "reward.custom_reward_function.reward_kwargs.undecided=raise"
    with pytest.raises(UserError, match="'bad' has no reward"):
        verl_rewards(asked, strict)
    told, paid, ours = verl_rewards(asked, strict, "reward.reward_manager.name=rate_limited")
    hidden = [n for n, answer in enumerate(told) if "error" in answer["reward_extra_info"]]
    assert hidden == [n for n, reward in enumerate(ours) if reward.value is None], "docs/verl.md says so"
    assert hidden and not any(paid[n] for n in hidden)


@pytest.mark.slow
def test_what_verl_hands_over_of_its_configuration():
    pytest.importorskip("verl", reason=VERL)
    from verl.trainer.ppo.reward import get_custom_reward_fn  # pyright: ignore[reportMissingImports]

    case = dict(data_source="s", solution_str=compose("", "7"), ground_truth="7", extra_info={"kind": "digit"})
    key = "reward.custom_reward_function.reward_kwargs"
    assert get_custom_reward_fn(verl_config(f"+{key}.kind_scale.digit=0.5"))(**case)["score"] == 0.5
    with pytest.raises(UserError, match="verl cannot be told"):
        get_custom_reward_fn(verl_config(f"{key}.undecided=none"))(**case)
    older = verl_config("custom_reward_function.path=x.py", "reward.custom_reward_function.path=null")
    assert get_custom_reward_fn(older) is None, "docs/verl.md: the older name is taken and not read"
