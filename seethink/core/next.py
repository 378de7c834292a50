"""What is worth doing after a verb: one command, with what is known of it filled in."""

from __future__ import annotations

import os
import shlex
from typing import Any

from seethink.core.run import PARENT, done_mark
from seethink.core.terminal import one_line

NEXT = {
    "import": "reward check {out}",
    "reward check": "grpo --model.path MODEL --data {input} --out runs/grpo",
    "reward score": "reward audit {input}",
    "reward audit": "reward check {input}",
    "data": "grpo --model.path MODEL --data {out}/rl.jsonl --out runs/grpo",
    "data merge": "grpo --model.path MODEL --data {out}/rl.jsonl --out runs/grpo",
    "split": "grpo --model.path MODEL --data {out}/rl.jsonl --out runs/grpo",
    "curate": "sft --model.path MODEL --data {out}/selected.jsonl --out runs/sft",
    "select": "sft --model.path MODEL --data {out}/{subset} --out runs/sft",
    "sft": "eval --model {out}/model --data BOARD.jsonl --out runs/eval",
    "grpo": "eval --model {out}/model --data BOARD.jsonl --out runs/eval",
    "pocket pretrain": "eval --model {out}/model --data BOARD.jsonl --out runs/eval",
    "pocket build": "pocket teach --world {out}",
    "eval": "view {out}",
    "eval compare": "traces --input {other}/scores.parquet --out runs/traces",
    "fingerprint": "curate --data TRACES.jsonl --decontaminate {out} --out runs/curated",
    "study": "findings {out} --out findings.md",
}
"""Verb -> what comes after it. Words in capitals are the user's to fill in."""
AGAIN = ("data", "data merge", "eval")
"""Verbs whose same command asks again for what an endpoint did not answer."""


def what_next(verb: str, config: Any) -> str:
    """The command after a finished verb; empty where there is none to name, or where somebody else leads (a study, torchrun)."""
    if verb not in NEXT or PARENT in os.environ or "TORCHELASTIC_RUN_ID" in os.environ:
        return ""
    said = (done_mark(getattr(config, "out", None)) or {}).get("summary", {}) if verb in FROM_SUMMARY else {}
    if verb in AGAIN and said.get("failed"):
        return "the same command, which asks again for what got no answer"
    if verb in AGAIN and not said:
        return ""  # a pilot, or a part: no finished run
    then = NEXT[verb]
    if verb in ("data", "data merge", "split") and not said.get("rl"):
        then = "sft --model.path MODEL --data {out}/sft.jsonl --out runs/sft"
    subset = next(iter(said.get("subsets", {})), "")
    if "{subset}" in then and not subset:
        return ""
    names = {name: shlex.quote(str(getattr(config, name, "") or "")) for name in ("out", "input", "other")}
    return one_line("seethink " + then.format(**names, subset=subset))


FROM_SUMMARY = (*AGAIN, "split", "select")
"""Verbs whose summary decides what is next."""
