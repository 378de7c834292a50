"""A process that compares two LaTeX expressions with math-verify; started by `workers`, by file name, never imported.

It reads one JSON pair [gold, answer] a line and answers with one line: equal, different, gold (unreadable) or answer
(unreadable). It may think for `cpu` seconds per pair and use `memory` bytes in all; beyond that the kernel ends it.
math-verify's plain-text parser evaluates Python, so only its LaTeX grammar is ever given a text.

    python -P symbolic.py CPU_SECONDS MEMORY_BYTES
"""

import json
import logging
import resource
import signal
import sys
from typing import Any


def main(cpu: float, memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from math_verify import LatexExtractionConfig, parse, verify

    logging.disable(logging.CRITICAL)
    grammar = (LatexExtractionConfig(boxed_match_priority=-1),)

    def read(text: str) -> Any:
        return parse(f"${text}$", grammar, fallback_mode="no_fallback", parsing_timeout=None)  # type: ignore[arg-type]

    def compare(gold: str, answer: str) -> str:
        golds = read(gold)
        if not golds:
            return "gold"
        answers = read(answer)
        if not answers:
            return "answer"
        same = verify(golds, answers, float_rounding=12, numeric_precision=20, timeout_seconds=None)
        return "equal" if same else "different"

    print("ready", flush=True)
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, cpu)  # counts CPU time; nobody handles the signal, so it ends the process
        print(compare(*json.loads(line)), flush=True)
        signal.setitimer(signal.ITIMER_PROF, 0)


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
