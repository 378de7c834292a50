"""The symbolic pool: verdicts, budgets, kills, threads, forks and event loops."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import threading
import time

import pytest

from seethink.core.errors import UserError
from seethink.core.nouns import Sample
from seethink.core.tags import compose
from seethink.rewards import RewardConfig, Rewarder, score
from seethink.rewards.maths import workers
from seethink.rewards.maths.workers import Pool

EQUAL = (r"\frac12", r"\int_0^1 x\,dx")
DIFFERENT = ("1", r"\int_0^1 x\,dx")
ENDLESS = ("3", r"\sum_{k=1}^{10^{9}} k^k")


@pytest.fixture
def pool():
    pool = Pool(size=2)
    yield pool
    pool.close()


def test_verdicts_in_input_order(pool):
    pairs = [EQUAL, DIFFERENT, (r"\frac{", "1"), ("1", r"\frac{"), EQUAL]
    assert pool.compare(pairs) == ["equal", "different", "gold", "answer", "equal"]


def test_a_hanging_item_is_killed_and_the_others_are_answered(pool):
    pool.compare([EQUAL])
    pairs = [(f"{n}", ENDLESS[1]) for n in range(3)] + [EQUAL, DIFFERENT]
    verdicts = pool.compare(pairs, item_seconds=60, batch_seconds=600)
    assert verdicts == ["timeout"] * 3 + ["equal", "different"]
    assert pool.compare([EQUAL, DIFFERENT]) == ["equal", "different"]


def test_the_batch_deadline_ends_what_is_unfinished(pool, monkeypatch):
    monkeypatch.setattr(workers, "CPU_SECONDS", 600)  # nothing else would end any of the fifty
    start = time.monotonic()
    verdicts = pool.compare([(f"{n}", ENDLESS[1]) for n in range(50)], item_seconds=600, batch_seconds=1.5)
    assert set(verdicts) == {"timeout"} and time.monotonic() - start < 120


def test_the_pool_ends_what_the_kernel_does_not(pool, monkeypatch):
    monkeypatch.setattr(workers, "CPU_SECONDS", 600)
    start = time.monotonic()
    assert pool.compare([ENDLESS], item_seconds=1.0) == ["timeout"]
    assert time.monotonic() - start < 120


def test_memory_is_limited(pool, monkeypatch):
    monkeypatch.setattr(workers, "MEMORY_BYTES", 400 << 20)
    assert pool.compare([("1", r"10^{10^{10}} + \frac{1}{10^{10^{9}}}"), EQUAL], item_seconds=120)[1] == "equal"


def test_workers_are_replaced_after_many_items(pool, monkeypatch):
    monkeypatch.setattr(workers, "RECYCLE", 2)
    assert pool.compare([(f"{n}", r"\int_0^1 x\,dx") for n in range(7)]) == ["different"] * 7


def test_a_pool_that_cannot_start_says_so(pool, monkeypatch):
    monkeypatch.setattr(workers.sys, "executable", "/bin/false")
    with pytest.raises(UserError, match="cannot be started"):
        pool.compare([EQUAL])


MATH = Sample("m", "", (), "q", r"\frac12", "math")
RESPONSE = compose("", r"\int_0^1 x\,dx")


def test_scores_from_threads_and_event_loops():
    found = []
    threads = [threading.Thread(target=lambda: found.append(score(MATH, RESPONSE).value)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    async def inside() -> float | None:
        return score(MATH, RESPONSE).value

    assert found + [asyncio.run(inside())] == [1.0] * 5


def _score_in_child(queue) -> None:
    queue.put(score(MATH, RESPONSE).value)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_scores_from_forked_and_daemonic_processes():
    assert score(MATH, RESPONSE).value == 1  # the parent's workers are running when it forks
    context = multiprocessing.get_context("fork")
    for daemon in (False, True):
        queue = context.Queue()
        child = context.Process(target=_score_in_child, args=(queue,), daemon=daemon)
        child.start()
        assert queue.get(timeout=60) == 1
        child.join()
    assert score(MATH, RESPONSE).value == 1


def test_workers_end_with_their_parent():
    script = (
        "import os, sys; from seethink.rewards.maths import workers; p = workers.shared_pool();"
        f"p.compare([{EQUAL!r}]); print(p._workers[0].process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    pid = int(done.stdout)
    for _ in range(600):
        if not os.path.exists(f"/proc/{pid}"):
            return
        time.sleep(0.1)
    raise AssertionError("the worker lives on")


def test_one_hanging_response_does_not_spoil_a_batch():
    limits = {"item_seconds": 60, "batch_seconds": 600}  # the CPU budget ends the item, however slow the machine
    answers = ["1/2", r"\lim_{x\to 0} " + ENDLESS[1], r"\int_0^1 x\,dx", r"\int_0^1 1\,dx"]
    config = RewardConfig.model_validate({"symbolic": limits})
    rewards = Rewarder(config).score_batch([MATH] * 4, [compose("", answer) for answer in answers])
    assert [(r.value, r.status) for r in rewards] == [(1, "ok"), (0, "timeout"), (1, "ok"), (0, "ok")]
    off = score(MATH, RESPONSE, RewardConfig.model_validate({"symbolic": {"on": False}}))
    assert (off.value, off.status) == (0, "malformed")
