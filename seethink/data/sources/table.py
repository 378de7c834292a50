"""The paper's nine sources, in its order (arXiv 2504.11468, table 1)."""

from __future__ import annotations

from seethink.data.sources.allava_laion import ALLAVA_LAION
from seethink.data.sources.arxivqa import ARXIVQA
from seethink.data.sources.clevr_math import CLEVR_MATH
from seethink.data.sources.coco import COCO
from seethink.data.sources.docvqa import DOCVQA
from seethink.data.sources.geoqa170k import GEOQA170K
from seethink.data.sources.math_puma import MATH_PUMA
from seethink.data.sources.source import Source
from seethink.data.sources.vg import VG
from seethink.data.sources.vizwiz import VIZWIZ

NINE: tuple[Source, ...] = (
    CLEVR_MATH, GEOQA170K, MATH_PUMA, ARXIVQA, DOCVQA, VIZWIZ, ALLAVA_LAION, COCO, VG,
)  # fmt: skip


def source_table() -> str:
    """The declarations as a table in Markdown."""
    lines = [
        "| `--format` | source | published at | licence | kind | boxes published as | original | after the pipeline | SFT | RL |",
        "|---|---|---|---|---|---|---:|---:|---:|---:|",
    ]
    for s in NINE:
        original, kept, sft, rl = ("-" if n is None else f"{n:,}" for n in s.counts)
        what = (f"`{s.name}`", s.title, s.published, s.licence, f"`{s.kind}`", s.frame)
        lines.append(f"| {' | '.join((*what, original, kept, 'RL only' if s.rl_only else sft, rl))} |")
    return "\n".join(lines)
