"""The command line: one verb, one function.

    seethink VERB [@file.toml ...] [--key value ...] [--dry-run] [--json]

A verb's modules are imported only when the verb is called, so help answers at once and needs no torch. Here stands what
spans rooms: which verbs there are, which run on several GPUs, and that what a run made is shown once it has run.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import seethink
from seethink import help
from seethink.core.config import resolve
from seethink.core.errors import UserError
from seethink.core.guard import refuse_overwrite
from seethink.core.next import what_next
from seethink.core.run import done_mark, end_with_parent, ended
from seethink.core.terminal import clean_output
from seethink.train.launch import launch, under_torchrun

# verb: (its settings, its function, what it does)
VERBS = {
    "data": ("data.config:DataConfig", "cli:distil", "distil reasoning traces from an endpoint, in six steps"),
    "data merge": ("data.config:MergeConfig", "data.shards:run", "make one run of the parts of several machines"),
    "data push": ("data.config:DataPushConfig", "data.push:run", "send data to the Hugging Face Hub, pictures inside, with a card"),
    "split": ("data.config:SplitConfig", "data.split:run", "split kept traces into SFT and RL sets again, without calls"),
    "curate": ("data.config:CurateConfig", "data.curate:run", "choose the rows an arm trains on; others go with a reason"),
    "import": ("data.config:ImportConfig", "data.imports.run:run", "turn your own data into rows: parquet, JSON, TSV ..."),
    "export": ("data.config:ExportConfig", "cli:export", "write data, or an evaluation, in another program's format"),
    "select": ("train.config:SelectConfig", "train.select:run", "select SFT examples by perplexity"),
    "sft": ("train.config:SFTConfig", "train.sft:run", "imitate: fine-tune on traces"),
    "grpo": ("train.config:GRPOConfig", "train.grpo:run", "explore: GRPO with the mixed reward"),
    "push": ("train.push:PushConfig", "train.push:run", "send a finished run's model to the Hugging Face Hub"),
    "eval": ("evals.config:EvalConfig", "cli:evaluate", "score a model, an endpoint or predictions on a board"),
    "eval compare": ("evals.config:CompareConfig", "show.compare:run", "compare two evaluations item by item"),
    "eval table": ("evals.config:TableConfig", "show.table:run", "the paper's table of six benchmarks, with its rows"),
    "eval judge-check": ("evals.config:JudgeCheckConfig", "evals.judge.check:run", "measure a judge on known verdicts"),
    "fingerprint": ("evals.config:FingerprintConfig", "evals.fingerprint:run", "hash a benchmark, to find it in data"),
    "traces": ("traces.config:TracesConfig", "traces.run:run", "analyse hesitation, length and step truth of traces"),
    "study": ("study.config:StudyConfig", "cli:study", "run all arms with matched controls; no plan: the pocket study"),
    "report": ("show.config:ReportConfig", "show.report:run", "render report.html of a study or a data run"),
    "findings": ("show.config:FindingsConfig", "show.findings:run", "render one page of findings from several studies"),
    "view": ("show.config:ViewConfig", "show.view:run", "render static pages to look at samples and traces"),
    "watch": ("show.config:LiveConfig", "show.watch:run", "look at a run in the terminal while it is written"),
    "doctor": ("doctor:DoctorConfig", "doctor:run", "check this machine before a run"),
    "doctor sft": ("train.config:SFTConfig", "cli:examine", "check it for this run: memory, disk, hours"),
    "doctor grpo": ("train.config:GRPOConfig", "cli:examine", "check it for this run: memory, disk, hours"),
    "reward score": ("rewards.config:ScoreConfig", "rewards.answers:run", "score every response of a file"),
    "reward check": ("rewards.config:CheckConfig", "rewards.check:run", "check the golds of a file before training"),
    "reward audit": ("rewards.config:AuditConfig", "rewards.audit:run", "look for rewards without the right answer"),
    "reward serve": ("rewards.config:ServeConfig", "rewards.serve:run", "serve rewards over HTTP"),
    "pocket build": ("pocket.config:BuildConfig", "pocket.build:run", "write the pocket world: pictures, pools, board"),
    "pocket teach": ("pocket.config:TeachConfig", "pocket.server:run", "serve the simulated teacher on loopback"),
    "pocket pretrain": ("pocket.config:PretrainConfig", "pocket.pretrain:run", "build the base model from nothing"),
}  # fmt: skip
UNREAD = 141  # as of a program that SIGPIPE ended: 128 + 13
FORMER = {"rank": "select"}  # earlier names of verbs, which are still understood
PARALLEL = ("select", "sft", "grpo", "eval")  # verbs that --gpus starts on several
DEFAULTS = {"study": "pocket/study.toml"}  # settings of a verb that was given no @file
EXAMINED = {"doctor sft": "sft", "doctor grpo": "grpo"}  # verbs that look at a run of another verb, and write nothing


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 a bug or a full disk, 2 bad input, 3 endpoint unusable, 4 budget spent, 130 interrupted.

    141: done, and whoever read standard output left before its end (`| head`); the work is never cut for that.
    """
    with clean_output() as out:
        code = command(arguments)
    if code or not out.fault or under_torchrun():
        return code
    if not out.unread:
        print(f"seethink: standard output: {out.fault.strerror}", file=sys.stderr)
    return UNREAD if out.unread else 1


def command(arguments: Sequence[str] | None) -> int:
    """Exit code of what was asked for, errors in words."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # oneDNN keeps a compiled kernel per tensor shape; ours change every step, and a thousand of them fill a gigabyte
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
    try:
        text = asked(arguments)
        if text is None:
            return dispatch(arguments)
        print(text)
        return 0
    except UserError as error:
        print(f"seethink: {error}", file=sys.stderr)
        return error.code
    except OSError as error:  # a full disk, a folder that went away
        print(f"seethink: {error.filename or 'input/output'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        if not under_torchrun():
            print("seethink: interrupted; the same command continues", file=sys.stderr)
        return 130


def asked(arguments: list[str]) -> str | None:
    """What is to be said of the command line itself; None where a verb is to be called. Raises UserError for an unknown verb."""
    if arguments[:1] == ["completion"]:
        return completion(arguments[1:])
    if arguments[:1] in (["-V"], ["--version"]):
        return f"seethink {seethink.__version__}"
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    words = [word for word in arguments if word not in ("-h", "--help", "--help-all")]
    if not words:
        return help.usage(VERBS)
    if len(words) == len(arguments):
        return None
    if words == ["files"]:
        return help.files_text()
    if (
        words[0] not in VERBS
        and any(verb.startswith(f"{words[0]} ") for verb in VERBS)
        and " ".join(words[:2]) not in VERBS
    ):
        return help.group_text(words[0], VERBS)
    verb, _ = split_verb(words)
    return help.verb_text(verb, load(VERBS[verb][0]), "--help-all" in arguments)


def completion(arguments: list[str]) -> str:
    """The script for a shell, or the words that may stand where the last one of `words ...` does."""
    if arguments[:1] == ["words"]:
        return "\n".join(help.words(VERBS, arguments[1:], lambda verb: load(VERBS[verb][0])))
    if not arguments or arguments[0] not in help.SCRIPTS:
        raise UserError("completion needs a shell", remedy=f"seethink completion {' | '.join(sorted(help.SCRIPTS))}")
    return help.SCRIPTS[arguments[0]]


def dispatch(arguments: list[str]) -> int:
    """Call the verb's function with its resolved settings, here or on several GPUs."""
    end_with_parent()
    verb, rest = split_verb(arguments)
    settings, function, _ = VERBS[verb]
    config_class = load(settings)
    dry_run, as_json = "--dry-run" in rest, "--json" in rest
    rest = [a for a in rest if a not in ("--dry-run", "--json")]
    if verb in DEFAULTS and not any(a.startswith("@") for a in rest):
        rest.insert(0, f"@{Path(__file__).parent / DEFAULTS[verb]}")
    if verb in EXAMINED:
        rest = ["--out", "runs/examined", *rest]  # a place for runs; nothing is written there
    config = resolve(config_class, rest)
    refuse_overwrite(config, [a[1:] for a in rest if a.startswith("@")])
    if verb in PARALLEL and config.gpus > 1 and not dry_run and not under_torchrun():
        return launch(arguments, config.gpus, config.device)
    out = getattr(config, "out", None)
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        before = done_mark(out) if as_json else None
        result = load(function)(config, dry_run=dry_run)
        if not dry_run and (then := what_next(verb, config)):
            print(f"next: {then}")
        if not as_json:
            return 0
        if result is None and not dry_run and out:
            result = ended(out, before)
    if result is not None or not under_torchrun():  # of several processes the first has the result
        print(json.dumps(result, ensure_ascii=False, default=str))
    return 0


def study(config: Any, dry_run: bool = False) -> dict[str, Any] | None:
    """Plan, run, then show. Raises UserError for a plan that does not hold or a stage that failed."""
    run, show = load("study.run:run"), load("show.report:run")
    if not run(config, dry_run):
        return None
    # the checker is named by whoever started the study, not by what lies in its folder
    return show(load("show.config:ReportConfig")(study=config.out, checker=config.checker))


def distil(config: Any, dry_run: bool = False) -> None:
    """Distil, then show, unless that was done before."""
    before = done_mark(config.out)
    load("data.pipeline:run")(config, dry_run)
    if not dry_run and not (before and before == done_mark(config.out) and (config.out / "report.html").is_file()):
        load("show.distilled:write")(config.out)


def evaluate(config: Any, dry_run: bool = False) -> dict[str, Any] | None:
    """Score, then show; the summary, which of several processes the first has."""
    summary = load("evals.run:run")(config, dry_run)
    if summary is not None:
        # code of a board that the user wrote runs here, where it was named, and by no folder
        load("show.evaluation:write")(
            config.out, load("evals.evaluated:board_items")(config.task, config.data, config.out)
        )
        print(f"report: {config.out / 'report.html'}")
    return summary


def examine(config: Any, dry_run: bool = False) -> dict[str, Any]:
    """The machine, and what a run's own --dry-run says of it. Raises UserError if a check failed."""
    verb = next(verb for verb in EXAMINED.values() if isinstance(config, load(VERBS[verb][0])))
    planned = lambda: load(VERBS[verb][1])(config, dry_run=True)  # noqa: E731
    return load("doctor:run")(load("doctor:DoctorConfig")(out=config.out.parent), dry_run, planned)


def export(config: Any, dry_run: bool = False) -> dict[str, Any] | None:
    """Data sets and evaluations are written by rooms of their own."""
    of_evaluation = config.format in ("vlmevalkit", "inspect")
    return load("evals.export.export:run" if of_evaluation else "data.export:run")(config, dry_run)


def split_verb(arguments: list[str]) -> tuple[str, list[str]]:
    """(verb, its arguments): a verb is one word or two. Raises UserError with the verb that was meant."""
    if arguments[0] in FORMER:
        print(f"{arguments[0]} is {FORMER[arguments[0]]} now", file=sys.stderr)
        arguments = [FORMER[arguments[0]], *arguments[1:]]
    for words in (2, 1):
        verb = " ".join(arguments[:words])
        if verb in VERBS:
            return verb, arguments[words:]
    group = [verb.split()[1] for verb in VERBS if verb.startswith(f"{arguments[0]} ")]
    if group:
        raise UserError(f"seethink {arguments[0]} needs one of {', '.join(group)}")
    close = difflib.get_close_matches(arguments[0], [verb.split()[0] for verb in VERBS], n=1)
    remedy = f"Did you mean {close[0]}?" if close else "seethink --help lists the verbs"
    raise UserError(f"unknown verb {arguments[0]!r}", remedy=remedy)


def load(name: str) -> Any:
    """What `room.module:name` of this package names. Raises UserError where the verb needs what is not installed."""
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(f"seethink.{module}"), attribute)
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] in ("torch", "transformers", "peft", "accelerate", "safetensors"):
            raise UserError(f"this verb needs {error.name}", remedy="pip install 'seethink[train]'") from None
        raise
