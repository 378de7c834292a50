"""Exactly so many traces: the same ones whatever order answers come in, none started in vain, and a short source is said."""

from __future__ import annotations

import asyncio
import random
import re
import time

import pytest

from seethink.core.errors import UserError
from seethink.core.store import hash_text, load_samples, read_json, read_jsonl
from seethink.core.tables import read_table
from seethink.data.accept import Quota
from seethink.data.pipeline import run
from tests.data_world import make_samples, teacher
from tests.fake_api import FakeApi, last_text
from tests.test_data import settings


def order(source, seed: int) -> list[str]:
    names = [sample.id for sample in load_samples(source)]
    return sorted(names, key=lambda name: hash_text(str(seed), name))


def kept(out) -> list[str]:
    return [row["id"] for _, row in read_jsonl(out / "traces.jsonl")]


def first_kept(everything, ranked: list[str], wanted: int) -> set[str]:
    """By hand: the first of the seeded order among all that a run of everything keeps."""
    good = set(kept(everything))
    return set([name for name in ranked if name in good][:wanted])


def tried_for(everything, ranked: list[str], wanted: int) -> list[str]:
    return ranked[: max(map(ranked.index, first_kept(everything, ranked, wanted))) + 1]


@pytest.fixture
def world(tmp_path):
    """(80 samples, a run of all of them)."""
    source = make_samples(tmp_path, 80)
    with FakeApi(teacher) as api:
        run(settings(source, tmp_path / "all", api.base_url))
    return source, tmp_path / "all"


@pytest.mark.parametrize("seed", [0, 5])
def test_the_first_kept_ones_whatever_order_answers_come_in(tmp_path, world, seed):
    """Workers by the dozen and answers in random order; against the run of all and the order, put together by hand."""
    source, everything = world
    ranked, wanted = order(source, seed), 17
    expected = first_kept(everything, ranked, wanted)
    last = max(map(ranked.index, expected))
    for number in range(3):
        delays, out = random.Random(number), tmp_path / f"out-{number}"

        def slow(body, delays=delays):
            time.sleep(delays.random() / 50)
            return teacher(body)

        with FakeApi(slow) as api:
            run(settings(source, out, api.base_url, "--accept", "17", "--seed", str(seed), "--in_flight", "9"))
            asked = {
                last_text(body).split("(item ")[1].split(")")[0] for body in api.bodies if body["model"] == "reasoner"
            }
        assert set(kept(out)) == expected and len(kept(out)) == wanted
        assert {f"item-{n}" for n in asked} <= set(ranked[: last + 1]), "nothing beyond the last one that was needed"
        drops = {d["sample_id"]: d for d in read_table(out / "drops.parquet")}
        assert {name for name, d in drops.items() if d["reason"] == "not_needed"} == set(ranked[last + 1 :])
        summary = read_json(out / "done.json")["summary"]
        assert summary["samples"] == 80 and not (out / "alarms.jsonl").exists()


def test_more_can_be_asked_for_and_only_the_difference_is_paid(tmp_path, world, capsys):
    source, everything = world
    out, ranked = tmp_path / "out", order(source, 0)
    with FakeApi(teacher) as api:
        command = lambda n, *more: settings(source, out, api.base_url, "--accept", str(n), *more)  # noqa: E731
        run(command(30), dry_run=True)
        said = capsys.readouterr().out
        assert "accept 30: 0 traces kept of 0 asked for so far, 80 items in all; at least 30 are needed" in said
        run(command(10))
        first, paid = set(kept(out)), len(api.bodies)
        capsys.readouterr()
        run(command(30), dry_run=True)
        said = capsys.readouterr().out
        tried = ranked[: max(map(ranked.index, first)) + 1]
        asked = [name for name in tried if int(name[5:]) % 4 != 3]  # geoqa170k is RL only
        assert f"{len(first & set(asked))} traces kept of {len(asked)} asked for so far" in said
        guess, least, most = map(int, re.search(r"about (\d+) are needed \((\d+) to (\d+)\)", said).groups())
        assert least <= guess <= most and least <= len(tried_for(everything, ranked, 30)) <= most
        assert len(api.bodies) == paid, "nothing is asked"
        run(command(10))
        assert len(api.bodies) == paid, "done before"
        run(command(30, "--overwrite", "true"))
        assert first < set(kept(out)) == first_kept(everything, ranked, 30)
        paid = len(api.bodies)
        run(command(10, "--overwrite", "true"))
        assert set(kept(out)) == first and len(api.bodies) == paid, "what was paid for stays in the ledger"


def test_a_source_that_ends_before_says_so_loudly(tmp_path, world, capsys):
    source, everything = world
    with FakeApi(teacher) as api:
        run(settings(source, tmp_path / "out", api.base_url, "--accept", "79"))
    n = len(kept(everything))
    assert kept(tmp_path / "out") == kept(everything), "in the order of the source"
    assert f"! 79 rows are wanted and the source ended at {n}, after 80 items" in capsys.readouterr().err
    assert [row["alarm"] for _, row in read_jsonl(tmp_path / "out" / "alarms.jsonl")][-1] == "too_few"


def test_an_item_that_got_no_answer_is_replaced_and_asked_again(tmp_path, world):
    """The endpoint has no word for one of the first items; the next in order takes its place, until it answers."""
    source, everything = world
    ranked = order(source, 0)
    wanted = first_kept(everything, ranked, 10)
    dead = min((name for name in wanted if int(name[5:]) % 4 != 3), key=ranked.index)
    broken = [True]

    def fault(_, body):
        return "empty" if broken[0] and f"(item {dead[5:]})" in last_text(body) else None

    with FakeApi(teacher, fault) as api:
        run(command := settings(source, tmp_path / "out", api.base_url, "--accept", "10"))
        assert len(kept(tmp_path / "out")) == 10 and dead not in kept(tmp_path / "out")
        broken[0] = False
        run(command)
    assert set(kept(tmp_path / "out")) == wanted


def test_seed_without_accept_is_refused(tmp_path):
    with pytest.raises(UserError, match="seed is the order of accept"):
        settings(tmp_path, tmp_path / "out", "http://127.0.0.1:1/v1", "--seed", "3")


def test_a_quota_starts_the_shortest_prefix_that_holds_enough():
    """Random yields, workers and orders of ending, against a plain loop."""
    rng = random.Random(1)

    async def tried(fates: list[bool], wanted: int, workers: int) -> int:
        quota, queue, started = Quota(wanted), iter(fates), 0

        async def worker() -> None:
            nonlocal started
            while await quota.admit():
                if (fate := next(queue, None)) is None:
                    return await quota.settle(False)
                started += 1
                for _ in range(rng.randint(0, 4)):
                    await asyncio.sleep(0)
                await quota.settle(fate)

        await asyncio.wait_for(asyncio.gather(*(worker() for _ in range(workers))), 20)
        return started

    for _ in range(300):
        fates = [rng.random() < 0.5 for _ in range(rng.randint(0, 25))]
        wanted, expected, found = rng.randint(0, 12), 0, 0
        while expected < len(fates) and (not wanted or found < wanted):
            found += fates[expected]
            expected += 1
        assert asyncio.run(tried(fates, wanted, rng.randint(1, 7))) == expected
