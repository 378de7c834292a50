"""LLaVA-CoT, rows on Visual Genome pictures: like those on COCO, but boxes are fractions of the padded square.

LLaVA-CoT has these questions from ShareGPT4V, and that from LLaVA's mixture, where boxes of Visual Genome are given in the
picture padded to a square (github.com/haotian-liu/LLaVA/issues/606; for COCO users disagree, issue 822). No model here pads:
gold and question are brought to the picture itself. A box in the padding contradicts this, and its row goes as `frame`.
"""

from __future__ import annotations

from seethink.data.sources.coco import below

VG = below("vg", frame="square", sft=38_242)
