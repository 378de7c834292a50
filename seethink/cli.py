"""The command line: one verb, one function.

    seethink VERB [@file.toml ...] [--key value ...] [--dry-run]

A verb's module is imported only when the verb is called, so help answers at once and needs no torch.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from seethink import __version__
from seethink.core.errors import UserError

# verb: (module of the config, config class, module of the function, function, what it does)
VERBS: dict[str, tuple[str, str, str, str, str]] = {
    "data": ("seethink.data.pipeline", "DataConfig", "seethink.data.pipeline", "run", "distil reasoning traces from an endpoint, in six steps"),
    "split": ("seethink.data.split", "SplitConfig", "seethink.data.split", "run", "split kept traces into SFT and RL sets again, without calls"),
    "export": ("seethink.data.export", "ExportConfig", "seethink.data.export", "run", "write a data set in another trainer's format"),
    "sft": ("seethink.train.config", "SFTConfig", "seethink.train.sft", "run", "imitate: fine-tune on traces"),
    "grpo": ("seethink.train.config", "GRPOConfig", "seethink.train.grpo", "run", "explore: GRPO with the mixed reward"),
    "rank": ("seethink.train.config", "RankConfig", "seethink.train.rank", "run", "rank SFT examples by perplexity, and cut subsets"),
    "eval": ("seethink.evals.run", "EvalConfig", "seethink.evals.run", "run", "score a model or an endpoint on a board"),
    "traces": ("seethink.traces.verb", "TracesConfig", "seethink.traces.verb", "run", "analyse hesitation, length and step truth of traces"),
    "study": ("seethink.study.arms", "StudyConfig", "seethink.pocket.study", "run", "run all arms with matched controls; no plan: the pocket study"),
    "report": ("seethink.study.report", "ReportConfig", "seethink.study.report", "run", "render report.html of a study"),
    "view": ("seethink.study.view", "ViewConfig", "seethink.study.view", "run", "render static pages to look at samples and traces"),
    "doctor": ("seethink.doctor", "DoctorConfig", "seethink.doctor", "run", "check this machine before a run"),
}  # fmt: skip
# verbs with verbs of their own: module with VERBS = {name: (Config, run)}
GROUPS = {
    "reward": ("seethink.rewards.verbs", "score, check, audit or serve rewards"),
    "pocket": ("seethink.pocket.verbs", "build the pocket world, serve its simulated teacher, rebuild its base model"),
}

PARALLEL = ("sft", "grpo")  # verbs that --gpus starts on several
DEFAULTS = {"study": "pocket/study.toml"}  # settings of a verb that was given no @file


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 a bug or a full disk, 2 bad input, 3 endpoint unusable, 4 budget spent, 130 interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # oneDNN keeps a compiled kernel per tensor shape; ours change every step, and a thousand of them fill a gigabyte
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"seethink {__version__}")
        return 0
    try:
        return dispatch(arguments)
    except UserError as error:
        print(f"seethink: {error}", file=sys.stderr)
        return error.code
    except OSError as error:  # a full disk, a folder that went away
        print(f"seethink: {error.filename or 'input/output'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        from seethink.train.launch import under_torchrun

        if not under_torchrun():
            print("seethink: interrupted; the same command continues", file=sys.stderr)
        return 130


def dispatch(arguments: list[str]) -> int:
    """Call the verb's function with its resolved config, here or on several GPUs."""
    from seethink.core.config import resolve
    from seethink.core.run import end_with_parent
    from seethink.train.launch import launch, under_torchrun

    end_with_parent()
    verb, rest = arguments[0], arguments[1:]
    if verb in GROUPS:
        name, table = " ".join(arguments[:2]), _import(GROUPS[verb][0]).VERBS
        if not rest or rest[0] not in table:
            raise UserError(f"seethink {verb} needs one of {', '.join(table)}")
        (config_class, run), rest = table[rest[0]], rest[1:]
    elif verb in VERBS:
        config_module, config_name, module, function, _ = VERBS[verb]
        name, config_class, run = verb, getattr(_import(config_module), config_name), None
    else:
        raise _unknown_verb(verb)
    if {"-h", "--help"} & set(rest):
        print(help_text(name, config_class))
        return 0
    dry_run = "--dry-run" in rest
    rest = [a for a in rest if a != "--dry-run"]
    if name in DEFAULTS and not any(a.startswith("@") for a in rest):
        rest.insert(0, f"@{Path(__file__).parent / DEFAULTS[name]}")
    config = resolve(config_class, rest)
    if name in PARALLEL and config.gpus > 1 and not dry_run and not under_torchrun():
        return launch(arguments, config.gpus, config.device)
    run = run or getattr(_import(module), function)
    run(config, dry_run=dry_run)
    return 0


def usage() -> str:
    rows = {**{v: row[-1] for v, row in VERBS.items()}, **{v: row[-1] for v, row in GROUPS.items()}}
    verbs = "\n".join(f"  {verb:8} {text}" for verb, text in rows.items())
    return (
        "seethink VERB [@config.toml ...] [--key value ...] [--dry-run]\n\n"
        f"Imitate or explore? SFT against GRPO for reasoning vision-language models.\n\n{verbs}\n\n"
        "seethink VERB --help lists the keys of a verb."
    )


def help_text(name: str, config_class: type) -> str:
    """Every key with type, default and meaning."""
    from seethink.core.config import describe

    rows = [(f"--{key}", *row) for key, row in describe(config_class)]
    width = max((len(row[0]) for row in rows), default=0)
    lines = [f"  {key:{width}}  {doc} [{kind}, {default}]" for key, kind, default, doc in rows]
    return (
        f"seethink {name} [@config.toml ...] [--key value ...] [--dry-run]\n\n{config_class.__doc__}\n\n"
        + "\n".join(lines)
    )


def _import(module: str):
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] in ("torch", "transformers", "peft", "safetensors"):
            raise UserError(f"this verb needs {error.name}", remedy="pip install 'seethink[train]'") from None
        raise


def _unknown_verb(verb: str) -> UserError:
    import difflib

    close = difflib.get_close_matches(verb, [*VERBS, *GROUPS], n=1)
    return UserError(
        f"unknown verb {verb!r}", remedy=f"Did you mean {close[0]}?" if close else "seethink --help lists the verbs"
    )
