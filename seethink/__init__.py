"""seethink: should a vision-language model learn to reason by imitation (SFT) or exploration (GRPO)?

    import seethink
    sample = seethink.Sample("1", "mine", ("clock.png",), "How many hands?", "2", "digit")
    seethink.score(sample, "<think>one, two</think> <answer>2</answer>").value

Importing the package loads nothing heavy: what is named here is imported when it is asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from seethink.api import EvaluationResult, StudyResult, TrainingResult, evaluate, grpo, run_study, sft
    from seethink.core.errors import UserError
    from seethink.core.nouns import Example, Reward, Sample
    from seethink.core.store import load_examples, load_samples, save_samples
    from seethink.rewards.config import RewardConfig
    from seethink.rewards.rewarder import Rewarder, score

_HOMES = {
    "api": ("EvaluationResult", "StudyResult", "TrainingResult", "evaluate", "grpo", "run_study", "sft"),
    "core.errors": ("UserError",),
    "core.nouns": ("Example", "Reward", "Sample"),
    "core.store": ("load_examples", "load_samples", "save_samples"),
    "rewards.config": ("RewardConfig",),
    "rewards.rewarder": ("Rewarder", "score"),
}
__all__ = [
    "EvaluationResult", "Example", "Reward", "RewardConfig", "Rewarder", "Sample", "StudyResult", "TrainingResult", "UserError", "__version__",
    "evaluate", "grpo", "load_examples", "load_samples", "run_study", "save_samples", "score", "sft",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"seethink.{module}"), name)
    raise AttributeError(f"seethink has no {name}")


def _version() -> str:
    """Of the git tag that it was built from; of a folder that was not installed, unknown."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("seethink")
    except PackageNotFoundError:
        return "0+unknown"


def __dir__() -> list[str]:
    return __all__
