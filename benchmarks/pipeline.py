"""The data pipeline and its client: speed, kills, changes, faults, saturation, budget, key. Each is a verb; none named: all.

    python benchmarks/pipeline.py speed [--items 1000] [--repeats 2] [--json out.json]
    python benchmarks/pipeline.py kills changes faults saturation budget key [--kills 20] [--seed 7]

The endpoint (`pipeline_api.py`) is a process of its own on this machine and answers after 100 ms; every item takes four dependent
calls. `client` is our client with four chats, `data` the whole of `seethink data` from its first call to its last, `bare` aiohttp
with the same questions and nothing around it: what this machine gives. CPU seconds are of the client's process alone. On a
machine in use by others, compare CPU and ratios, not calls a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from PIL import Image
from pipeline_api import THINKING, serving, stats

from seethink.ask import Budget, Client, Endpoint, Ledger, user_message
from seethink.core.errors import UserError
from seethink.core.nouns import Sample
from seethink.core.run import processor
from seethink.core.store import read_jsonl, save_samples, write_json
from seethink.core.tables import read_table

ROOT = Path(__file__).parents[1]
LATENCY = 0.1  # seconds
ROLES = ("captioner", "reasoner", "rewriter", "judge")
STEPS = 4
FAULTS = {"429": 0.05, "500": 0.03, "hang": 0.01, "cut": 0.01}
KILLS_PER_RUN = 4
TIMEOUT = 600
Result = dict[str, Any]


def make_items(folder: Path, count: int, first: int = 0) -> Path:
    """samples.jsonl: open questions, each with a picture of its own, so that every item takes all four calls."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    samples = []
    for n in range(first, first + count):
        image = folder / "images" / f"{n}.png"
        Image.new("RGB", (8, 8), (n % 256, n // 256 % 256, 7)).save(image)
        samples.append(
            Sample(f"item-{n}", "docvqa", (str(image),), f"What is {n} plus one? (item {n})", str(n + 1), "open")
        )
    save_samples(folder / "samples.jsonl", samples)
    return folder / "samples.jsonl"


def data_command(source: Path, out: Path, base_url: str, *more: str) -> list[str]:
    """`seethink data`, all steps asking one model, so that they share its places."""
    models = [word for role in ROLES for word in (f"--{role}.model", "teacher")]
    return ["data", "--source", str(source), "--out", str(out), "--base_url", base_url, *models, *more]


def spawn(command: list[str], **more: Any) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **more}
    child = [sys.executable, "-m", "seethink", *command]
    return subprocess.Popen(
        child, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(command: list[str], **more: Any) -> str:
    """What a run said that came to its end. Raises RuntimeError for one that failed."""
    child = spawn(command, **more)
    said = child.communicate(timeout=TIMEOUT)[0]
    if child.returncode:
        raise RuntimeError(f"exit code {child.returncode}:\n{said}")
    return said


def tables(out: Path) -> list[Any]:
    """What a run has written for good."""
    rows = [[row for _, row in read_jsonl(out / name)] for name in ("traces.jsonl", "sft.jsonl", "rl.jsonl")]
    return [*rows, read_table(out / "drops.parquet"), (out / "funnel.json").read_text()]


# speed


def questions(item: int, said: str, step: int) -> str:
    """What the four steps ask, in the length that they usually have here."""
    frames = (
        "Look: image_url item {}",
        "Think of item {}: {}",
        "<text>\n{1}\n</text> item {0}",
        "<reference>{}</reference> {}",
    )
    return frames[step].format(item, said or THINKING)


async def drive(count: int, workers: int, one: Callable[[int], Awaitable[None]]) -> None:
    queue = iter(range(count))

    async def work() -> None:
        for item in queue:
            await one(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(work())


async def ask_client(base_url: str, count: int, in_flight: int, path: Path) -> None:
    endpoint = Endpoint(base_url=base_url, model="teacher", in_flight=in_flight)
    with closing(Ledger(path / "ledger.sqlite")) as ledger:
        async with Client(endpoint, ledger) as client:

            async def one(item: int) -> None:
                said = ""
                for step in range(STEPS):
                    reply = await client.chat(
                        user_message(questions(item, said, step)), f"step{step}", rank=step, seed=7
                    )
                    said = reply.text

            await drive(count, in_flight, one)


async def ask_bare(base_url: str, count: int, in_flight: int, path: Path) -> None:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def one(item: int) -> None:
            said = ""
            for step in range(STEPS):
                messages = [{"role": "user", "content": questions(item, said, step)}]
                body = json.dumps({"model": "teacher", "messages": messages, "seed": 7}).encode()
                async with session.post(f"{base_url}/chat/completions", data=body) as response:
                    said = json.loads(await response.read())["choices"][0]["message"]["content"]

        await drive(count, in_flight, one)


def ask_data(base_url: str, count: int, in_flight: int, path: Path) -> Result:
    """The whole pipeline, timed from its first call to its last."""
    from seethink.core.config import resolve
    from seethink.data import pipeline
    from seethink.data.config import DataConfig

    command = data_command(path / "samples.jsonl", path / "run", base_url, "--in_flight", str(in_flight))
    walk, measured = pipeline.ask, {}
    pipeline.ask = lambda *given: measured.update(measure(lambda: walk(*given)))
    pipeline.run(resolve(DataConfig, command[1:]))
    return measured


def measure(work: Callable[[], object]) -> Result:
    wall, cpu = time.monotonic(), time.process_time()
    work()
    return {"seconds": time.monotonic() - wall, "cpu_seconds": time.process_time() - cpu}


def child(kind: str, base_url: str, count: int, in_flight: int, path: Path) -> None:
    """One measurement, in a process of its own; its last line is the result."""
    if kind == "data":
        found = ask_data(base_url, count, in_flight, path)
    else:
        ask = {"client": ask_client, "bare": ask_bare}[kind]
        found = measure(lambda: asyncio.run(ask(base_url, count, in_flight, path)))
    found["rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(found))


def one_speed(kind: str, items: int, in_flight: int) -> Result:
    """Calls a second and CPU of one run against a fresh endpoint."""
    with tempfile.TemporaryDirectory() as name, serving(latency=LATENCY) as base_url:
        if kind == "data":
            make_items(Path(name), items)
        command = [sys.executable, __file__, "--child", kind, base_url, str(items), str(in_flight), name]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
        found, seen = json.loads(done.stdout.splitlines()[-1]), stats(base_url)
    calls = seen["answered"]
    assert calls == STEPS * items, f"{calls} calls of {STEPS * items}"
    rate = calls / found["seconds"]
    return {
        "calls_per_s": rate,
        "share_of_limit": rate * LATENCY / in_flight,
        "cpu_ms_per_call": found["cpu_seconds"] / calls * 1e3,
        "server_cpu_ms_per_call": seen["cpu_seconds"] / calls * 1e3,
        "rss_mb": found["rss_mb"],
    }


def speed(given: argparse.Namespace) -> Result:
    """Rounds of all kinds in turn, so that each meets the same machine; medians, and the lowest and highest CPU."""
    rounds = [
        {(kind, n): one_speed(kind, given.items, n) for n in (64, 256) for kind in ("bare", "client", "data")}
        for _ in range(given.repeats)
    ]
    rows = []
    for kind, n in rounds[0]:
        runs = [found[kind, n] for found in rounds]
        row = {"kind": kind, "in_flight": n, **{name: statistics.median(r[name] for r in runs) for name in runs[0]}}
        row["cpu_ms_spread"] = [min(r["cpu_ms_per_call"] for r in runs), max(r["cpu_ms_per_call"] for r in runs)]
        row["cpu_over_bare"] = statistics.median(
            f[kind, n]["cpu_ms_per_call"] / f["bare", n]["cpu_ms_per_call"] for f in rounds
        )
        rows.append(row)
        print(
            f"speed {kind:7} {n:4} in flight: {row['calls_per_s']:6.0f} calls/s, {row['share_of_limit']:4.0%} of the limit, "
            f"{row['cpu_ms_per_call']:.3f} ms CPU a call ({row['cpu_over_bare']:.2f} x bare), {row['rss_mb']:.0f} MB"
        )
    return {"items": given.items, "repeats": given.repeats, "rows": rows}


# what may go wrong


def kills(given: argparse.Namespace) -> Result:
    """`kill -9` at random shares of a run's calls; each folder is killed a few times, then brought to its end."""
    rng, in_flight, items = random.Random(given.seed), 64, 300
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = make_items(folder, items)
        with serving(latency=LATENCY) as base_url:
            finish(data_command(source, folder / "calm", base_url))
        calm, killed, repeats, paid_twice, unequal, run = tables(folder / "calm"), 0, [], 0, 0, 0
        while killed < given.kills:
            out, run = folder / f"killed{run}", run + 1
            with serving(latency=LATENCY) as base_url:
                command = data_command(source, out, base_url, "--in_flight", str(in_flight))
                for share in sorted(rng.uniform(0, 1) for _ in range(min(KILLS_PER_RUN, given.kills - killed))):
                    process = spawn(command)
                    while process.poll() is None and stats(base_url).get("answered", 0) < share * STEPS * items:
                        time.sleep(0.02)
                    killed += 1
                    process.send_signal(signal.SIGKILL)
                    process.communicate()
                finish(command)
                repeats.append(stats(base_url)["repeats"])
            with closing(sqlite3.connect(out / "ledger.sqlite")) as db:
                twice = "SELECT count(*) FROM (SELECT key FROM attempt WHERE status = 'ok' GROUP BY key HAVING count(*) > 1)"
                paid_twice += db.execute(twice).fetchone()[0]
            unequal += tables(out) != calm
    found = {"seed": given.seed, "kills": killed, "runs": run, "repeats_per_run": repeats, "in_flight": in_flight,
             "finished_lost": paid_twice, "runs_that_differ": unequal}  # fmt: skip
    found["ok"] = not paid_twice and not unequal and all(n <= KILLS_PER_RUN * in_flight for n in repeats)
    print(
        f"kills {killed} in {run} runs: {paid_twice} finished results lost, repeats {repeats} (64 in flight), {unequal} differ"
    )
    return found


def changes(given: argparse.Namespace) -> Result:
    """New calls after one row more, another order, another prompt of the judge."""
    with tempfile.TemporaryDirectory() as name, serving(latency=0.01) as base_url:
        folder, items = Path(name), 50
        source = make_items(folder, items)
        command = data_command(source, folder / "run", base_url, "--overwrite")
        prompts = folder / "prompts"
        prompts.mkdir()
        (prompts / "verify.txt").write_text("Yes or No? $question <reference>$gold</reference> $answer")
        rows, counts = source.read_text().splitlines(), []

        def calls(*more: str) -> int:
            before = stats(base_url).get("requests", 0)
            finish([*command, *more])
            return stats(base_url)["requests"] - before

        first = calls()
        source.write_text("\n".join(reversed(rows)))
        counts.append(calls())
        make_items(folder, 1, first=items)
        source.write_text("\n".join(rows) + "\n" + source.read_text())
        counts.append(calls())
        counts.append(calls("--prompts", str(prompts)))
    found = {"first": first, "reordered": counts[0], "one_row_more": counts[1], "judge_prompt": counts[2]}
    found["ok"] = list(found.values()) == [STEPS * items, 0, STEPS, items + 1]
    print(
        f"changes: {first} calls at first; reordered {counts[0]}, one row more {counts[1]}, another judge prompt {counts[2]}"
    )
    return found


def faults(given: argparse.Namespace) -> Result:
    """200 items against 5 % 429, 3 % 500, 1 % that hang, 1 % JSON cut in half."""
    with tempfile.TemporaryDirectory() as name, serving(latency=LATENCY, faults=FAULTS) as base_url:
        source = make_items(Path(name), 200)
        began = time.monotonic()
        finish(data_command(source, Path(name) / "run", base_url, "--in_flight", "64", "--timeout", "5"))
        seconds, rows = time.monotonic() - began, len(tables(Path(name) / "run")[0])
        seen = stats(base_url)
    found = {"seconds": seconds, "rows": rows, "requests": seen["requests"], "ok": rows == 200}
    print(f"faults: {rows} of 200 rows in {seconds:.1f} s with its start, {seen['requests']} requests")
    return found


def saturation(given: argparse.Namespace) -> Result:
    """An endpoint that takes 24 at once, asked by a client set to 24, and by one set to 64."""
    seconds, refused = [], []
    for in_flight in (24, 64):
        with tempfile.TemporaryDirectory() as name, serving(latency=0.5, spread=0.5, admits=24) as base_url:
            found = measure(lambda: asyncio.run(ask_client(base_url, 250, in_flight, Path(name))))  # noqa: B023
            seconds.append(found["seconds"])
            refused.append(stats(base_url).get("429", 0))
    share = seconds[0] / seconds[1]
    print(
        f"saturation: {seconds[0]:.1f} s set to 24, {seconds[1]:.1f} s set to 64 ({share:.0%}), {refused[1]} refusals"
    )
    return {"seconds": seconds, "refused": refused, "share": share, "ok": share >= 0.75}


def budget(given: argparse.Namespace) -> Result:
    """200 in flight; what is spent and what is held never exceed the cap together, and the endpoint's own count agrees."""
    highest, cap = 0.0, 0.02

    class Watched(Budget):
        def pay(self, usd: float) -> None:
            nonlocal highest
            highest = max(highest, self.spent + self.held)  # what it is about to pay is held still
            super().pay(usd)

    async def ask(base_url: str, ledger: Ledger) -> None:
        endpoint = Endpoint(
            base_url=base_url, model="teacher", in_flight=200, params={"max_tokens": 200}, price=(0.1, 0.4)
        )
        async with Client(endpoint, ledger, Watched(cap)) as client:
            await drive(2000, 400, lambda item: client.chat(user_message(questions(item, "", 1))))  # type: ignore[arg-type]

    code = 0
    with tempfile.TemporaryDirectory() as name, serving(latency=LATENCY, faults={"cut": 0.02}) as base_url:
        ledger = Ledger(Path(name) / "ledger.sqlite")
        try:
            asyncio.run(ask(base_url, ledger))
        except* UserError as errors:
            code = errors.exceptions[0].code  # type: ignore[union-attr]
        spent = ledger.spent()
        ledger.close()
    print(f"budget: cap {cap}, spent {spent:.5f}, spent and held at most {highest:.5f}, exit code {code}")
    return {
        "cap": cap,
        "spent": spent,
        "highest": highest,
        "code": code,
        "ok": code == 4 and highest <= cap and 0.9 * cap < spent,
    }


def key(given: argparse.Namespace) -> Result:
    """A key that nobody may find again, sent to an endpoint that repeats it in its errors."""
    canary, leaks = "canary-5f0c2e7a91", []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = make_items(folder, 40)
        with serving(latency=0.01, faults={"500": 0.2, "429": 0.02}, echo=True) as base_url:
            said = finish(data_command(source, folder / "run", base_url), OPENAI_API_KEY=canary)
        child = spawn(data_command(source, folder / "dead", "http://127.0.0.1:9/v1"), OPENAI_API_KEY=canary)
        said += child.communicate(timeout=TIMEOUT)[0]
        leaks += ["screen"] if canary in said else []
        files = [path for path in folder.rglob("*") if path.is_file()]
        leaks += [path.name for path in files if canary.encode() in path.read_bytes()]
    print(f"key: found in {leaks or 'none'} of {len(files)} files and the screen")
    return {"files": len(files), "leaks": leaks, "ok": not leaks and child.returncode == 3}


CASES = {case.__name__: case for case in (speed, kills, changes, faults, saturation, budget, key)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="case", help=", ".join(CASES))
    parser.add_argument("--items", type=int, default=1000, help="of speed, four calls each")
    parser.add_argument("--repeats", type=int, default=2, help="of speed")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=7, help="of the kills")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        kind, base_url, count, in_flight, path = given.child
        child(kind, base_url, int(count), int(in_flight), Path(path))
        return
    if unknown := [name for name in given.cases if name not in CASES]:
        parser.error(f"no case is called {unknown[0]}; there are {', '.join(CASES)}")
    found: Result = {"processor": processor(), "cores": os.cpu_count(), "load_before": os.getloadavg()}
    for name in given.cases or CASES:
        found[name] = CASES[name](given)
    found["load_after"] = os.getloadavg()
    if given.json:
        write_json(given.json, found)
    sys.exit(any(not case.get("ok", True) for case in found.values() if isinstance(case, dict)))


if __name__ == "__main__":
    main()
