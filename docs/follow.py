"""Follow a page word for word: run its ```sh blocks in one shell, from the checkout, and say how long each section took.

    python docs/follow.py docs/first-hour.md [--skip 1] [--write]

`--write` puts the minutes into the page's table. Ends with the code of the first command that failed.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT / "docs"), str(ROOT / "benchmarks")]

from render import replace  # noqa: E402
from work import machine  # noqa: E402

MARK = "==== section"


def sections(text: str) -> list[tuple[str, str]]:
    """(heading, its commands) of every `## ` section that has some."""
    parts = re.split(r"(?m)^## (.*)$", text)[1:]
    found = [
        (heading, "\n".join(re.findall(r"(?s)```sh\n(.*?)```", body)))
        for heading, body in zip(parts[::2], parts[1::2], strict=True)
    ]
    return [(heading, commands) for heading, commands in found if commands]


def follow(parts: list[tuple[str, str]], seconds: float, where: Path = Path()) -> tuple[int, dict[str, float]]:
    """(exit code, wall seconds of each section), from the folder `where`. What is left in the background ends with the shell."""
    lines = ["set -e", f"trap 'echo {MARK} end $?' EXIT"]
    for number, (_, commands) in enumerate(parts):
        lines += [f"echo '{MARK} {number}'", commands]
    shell = subprocess.Popen(
        ["bash", "-c", "\n".join(lines)], stdout=subprocess.PIPE, text=True, cwd=where, start_new_session=True
    )
    over = time.monotonic() + seconds
    stop = threading.Timer(seconds, os.killpg, (shell.pid, signal.SIGTERM))
    stop.start()
    took: dict[str, float] = {}
    began, at, code = "", 0.0, 1
    try:
        assert shell.stdout
        for line in shell.stdout:
            if line.startswith(MARK):
                now = time.monotonic()
                if began:
                    took[began] = now - at
                name, *status = line.removeprefix(MARK).split()
                if name == "end":
                    code = int(status[0])
                    break
                began, at = parts[int(name)][0], now
                line = f"\n## {began}\n"
            print(line, end="", flush=True)
        return code if time.monotonic() < over else 124, took
    finally:
        stop.cancel()
        os.killpg(shell.pid, signal.SIGTERM)
        shell.wait()


def table(took: dict[str, float], where: str) -> str:
    rows = ["| step | minutes |", "|---|---|", *(f"| {name} | {s / 60:.1f} |" for name, s in took.items())]
    return "\n".join([*rows, f"| **in all** | **{sum(took.values()) / 60:.1f}** |", "", where])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("--skip", type=int, default=0, help="leave out so many sections")
    parser.add_argument("--minutes", type=float, default=60, help="give up after so many")
    parser.add_argument("--write", action="store_true", help="write the minutes into the page")
    arguments = parser.parse_args()
    text = arguments.page.read_text(encoding="utf-8")
    code, took = follow(sections(text)[arguments.skip :], arguments.minutes * 60)
    found = machine()
    where = f"{found['cores']} cores, {found['cpu']}, on {time.strftime('%Y-%m-%d')}."
    print(f"\n{table(took, where)}")
    if code == 0 and arguments.write:
        arguments.page.write_text(replace(text, "followed", table(took, where)), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
