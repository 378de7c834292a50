"""The verbs as functions: for notebooks and for programs that train, evaluate and compare without a command line.

    import seethink
    trained = seethink.grpo(model={"path": "Qwen2.5-VL-3B-Instruct"}, data="rl.jsonl", out="runs/grpo")
    print(seethink.evaluate(model=trained.model, data="board.jsonl", out="runs/eval").score)

Settings are those of the verb (`seethink grpo --help`), as keywords or as its config; nested ones are dicts. Each call does
what the command does, in this process: it resumes, refuses what the command refuses by raising UserError, and writes the same
run folder, from which the result is read. On several GPUs use the command line (`--gpus`), which starts the processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from seethink.core.config import Config, build, whole
from seethink.core.errors import UserError
from seethink.core.guard import refuse_overwrite
from seethink.core.run import done_mark
from seethink.evals.config import EvalConfig
from seethink.study.config import StudyConfig
from seethink.train.config import GRPOConfig, SFTConfig

if TYPE_CHECKING:
    from seethink.study.results import ArmResult, Contrast

C = TypeVar("C", bound=Config)


@dataclass(frozen=True)
class RunResult:
    """A finished run folder.

    out          the folder; docs/run-folder.md says what lies in it
    done_before  True where an earlier call had finished this very run, so that nothing was computed now
    summary      numbers of `done.json`: seconds, tokens, steps, counts ...
    """

    out: Path
    done_before: bool
    summary: Mapping[str, Any]


@dataclass(frozen=True)
class TrainingResult(RunResult):
    """What `sft` or `grpo` left: the model and its curves."""

    @property
    def model(self) -> Path:
        """Folder of the trained model, which transformers, vLLM and `evaluate` load."""
        return self.out / "model"

    @property
    def metrics(self) -> Path:
        """JSONL with one row per optimiser step, of grpo per round."""
        return self.out / "metrics.jsonl"


@dataclass(frozen=True)
class EvaluationResult(RunResult):
    """What `evaluate` left: the number, its interval, and a verdict for every answer."""

    @property
    def score(self) -> float | None:
        """The number of the board's metric, in per cent; None where answers or verdicts are missing."""
        return self.summary["score"]

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of `score` over its items, in per cent."""
        found = self.summary.get("score_interval")
        return tuple(found) if found else None

    @property
    def accuracy(self) -> float | None:
        """Share of right answers among the decided ones, in [0, 1]."""
        return self.summary["accuracy"]

    @property
    def decided(self) -> int:
        """How many answers got a verdict; `summary["n"]` were asked for."""
        return self.summary["decided"]

    @property
    def scores(self) -> Path:
        """Parquet with a row per item and draw: verdict, reason, answer, text."""
        return self.out / "scores.parquet"

    @property
    def report(self) -> Path:
        """The page to look at."""
        return self.out / "report.html"


@dataclass(frozen=True)
class StudyResult:
    """A finished study.

    out        its folder, with a run folder per arm, seed and stage
    answer     the headline in words, as the report has it
    warning    what limits it: few seeds, unmatched controls, missing runs; empty where nothing does
    arms       every arm with its accuracy (an interval over seeds and items, in [0, 1]), length and entropy
    contrasts  the planned comparisons: difference, adjusted p, verdict word, controls
    """

    out: Path
    answer: str
    warning: str
    arms: Sequence[ArmResult]
    contrasts: Sequence[Contrast]

    @property
    def report(self) -> Path:
        """The page to look at."""
        return self.out / "report.html"


def sft(config: SFTConfig | None = None, /, **settings: Any) -> TrainingResult:
    """Imitate: fine-tune on traces (`seethink sft`). Raises UserError for bad data, model or folder."""
    from seethink.train.sft import run

    config = _config(SFTConfig, config, settings)
    return _finished(TrainingResult, config, lambda: run(config))


def grpo(config: GRPOConfig | None = None, /, **settings: Any) -> TrainingResult:
    """Explore: GRPO with the mixed reward (`seethink grpo`). Raises UserError for bad data, model or folder."""
    from seethink.train.grpo import run

    config = _config(GRPOConfig, config, settings)
    return _finished(TrainingResult, config, lambda: run(config))


def evaluate(config: EvalConfig | None = None, /, **settings: Any) -> EvaluationResult:
    """Score a model, an endpoint or predictions on a board (`seethink eval`), and write its report.

    Raises UserError for a bad board, model or endpoint.
    """
    from seethink.evals.evaluated import board_items
    from seethink.evals.run import run
    from seethink.show.evaluation import write

    config = _config(EvalConfig, config, settings)
    result = _finished(EvaluationResult, config, lambda: run(config))
    write(config.out, board_items(config.task, config.data, config.out))
    return result


def run_study(config: StudyConfig | str | Path | None = None, /, **settings: Any) -> StudyResult:
    """Run all arms of a plan and write the report (`seethink study`).

    The plan is a StudyConfig, a TOML file (`my.toml`, or a shipped one: `studies/pocket/main.toml`), or settings alone; without
    any but `out` and `workers` it is the pocket study. Settings go over those of a file. Its name is not `study`, which is the
    package of its parts. Raises UserError for a plan that does not hold, or a stage that failed.
    """
    from seethink.core.config import load_file, merge
    from seethink.core.shipped import here_or_shipped
    from seethink.show.config import ReportConfig
    from seethink.show.report import run as report
    from seethink.study import results
    from seethink.study.folder import load_study
    from seethink.study.run import run

    if config is None and not settings.keys() - {"out", "workers"}:
        config = Path(__file__).parent / "pocket" / "study.toml"
    file: Path | None = None
    if isinstance(config, str | Path):
        file, config = here_or_shipped(Path(str(config).removeprefix("@"))), None
        plan = load_file(file)
        merge(plan, settings)
        settings = plan
    config = _config(StudyConfig, config, settings, file or "")
    run(config)
    report(ReportConfig(study=config.out, checker=config.checker))
    study = load_study(config.out)
    found = results.contrasts(study)
    said = results.headline(study, found)
    return StudyResult(config.out, said.answer, said.warning, results.arm_results(study), found)


def _config(model: type[C], given: C | None, settings: dict[str, Any], where: object = "") -> C:
    """One of the two. Raises UserError for both, or for settings that are none, naming `where` they stand."""
    if given is None:
        config = whole(build(model, _paths_as_text(settings), where))
    elif settings:
        raise UserError("a config and settings are given", remedy="Give one of them: config.model_copy(update={...})")
    elif model not in type(given).__mro__:
        what = f"{type(given).__name__} is given where a {model.__name__} may stand"
        raise UserError(what, remedy="Give settings as keywords: data=..., out=...")
    else:
        config = given
    refuse_overwrite(config)
    return config


def _paths_as_text(value: Any) -> Any:
    """A model is named by a text, which may be a path: that of a result is one."""
    if isinstance(value, Mapping):
        return {key: _paths_as_text(part) for key, part in value.items()}
    return str(value) if isinstance(value, Path) else value


R = TypeVar("R", bound=RunResult)


def _finished(kind: type[R], config: SFTConfig | GRPOConfig | EvalConfig, call: Callable[[], Any]) -> R:
    """Do it, then read what it left."""
    before = done_mark(config.out)
    call()
    after = done_mark(config.out) or {}
    return kind(Path(config.out), after == before, after["summary"])
