"""The questions of `benchmarks/pipeline.py speed`, asked by another program: four dependent calls for each of so many items.

    PYTHON_OF_ITS_ENVIRONMENT benchmarks/pipeline_peer.py curator http://127.0.0.1:8000/v1 1000 64 /tmp/folder

curator (bespokelabs-curator) asks step by step, each of them for all items. It counts tokens with tables that tiktoken downloads;
here a count of characters stands for them, so that it runs without a network. The last line is the result as JSON.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from importlib import import_module

os.environ |= {"TELEMETRY_ENABLED": "0", "NEMO_TELEMETRY_ENABLED": "false", "OPENAI_API_KEY": "none"}
THINKING = "I look at it, count what I see, compare it with the question and add one. " * 6
FRAMES = (
    "Look: image_url item {}",
    "Think of item {}: {}",
    "<text>\n{1}\n</text> item {0}",
    "<reference>{}</reference> {}",
)


class Characters:
    """A tokenizer that needs no tables."""

    def encode(self, text: str, **_: object) -> list[int]:
        return [0] * (len(text) // 4)


def curator(base_url: str, items: int, in_flight: int, folder: str) -> None:
    import tiktoken

    tiktoken.get_encoding = tiktoken.encoding_for_model = lambda name: Characters()
    from bespokelabs import curator as library

    class Step(library.LLM):
        def prompt(self, row: dict) -> str:
            return FRAMES[row["step"]].format(row["item"], row["said"] or THINKING)

        def parse(self, row: dict, response: str) -> dict:
            return {"item": row["item"], "step": row["step"] + 1, "said": response}

    rows = [{"item": item, "step": 0, "said": ""} for item in range(items)]
    limits = {"max_concurrent_requests": in_flight, "max_requests_per_minute": 10**7, "max_tokens_per_minute": 10**10}
    for _ in FRAMES:
        teacher = Step(model_name="teacher", backend="openai", backend_params={"base_url": base_url, **limits})
        answered = teacher(rows, working_dir=folder)
        rows = list(getattr(answered, "dataset", answered))
    assert len(rows) == items and rows[0]["said"]


def main() -> None:
    name, base_url, items, in_flight, folder = sys.argv[1:]
    ask = {"curator": curator}[name]
    import_module({"curator": "bespokelabs.curator"}[name])
    wall, cpu = time.monotonic(), time.process_time()
    ask(base_url, int(items), int(in_flight), folder)
    found = {"seconds": time.monotonic() - wall, "cpu_seconds": time.process_time() - cpu}
    print(json.dumps({**found, "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


if __name__ == "__main__":
    main()
