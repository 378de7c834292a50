"""Pictures prepared ahead change nothing but time."""

from __future__ import annotations

import threading

import pytest
import torch

from seethink.core.errors import UserError
from seethink.core.nouns import Sample
from seethink.core.store import load_samples
from seethink.pocket.build import build
from seethink.train import ahead
from seethink.train.ahead import Ahead
from tests.test_dist import BASE
from tests.tiny import plain_policy


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ahead")
    build(folder, seed=3, sft=0, rl=12, board=0, ood=0)
    return plain_policy(BASE), load_samples(folder / "rl_pool.jsonl")[:12]


def rounds_of(samples, size=4):
    return lambda number: samples[number * size : (number + 1) * size]


def test_prompts_are_the_same_in_the_same_order(world):
    policy, samples = world
    with Ahead(policy, rounds_of(samples), 0) as now, Ahead(policy, rounds_of(samples), 3) as before:
        for number in (0, 1, 2):
            for a, b in zip(now.take(number), before.take(number), strict=True):
                assert torch.equal(a.ids, b.ids) and torch.equal(a.pixels, b.pixels) and a.images == b.images


def test_the_next_round_is_begun_while_this_one_is_computed(world, monkeypatch):
    policy, samples = world
    seen, ready = [], threading.Event()
    plain = ahead.load_pixels

    def spy(policy, sample):
        seen.append((sample.id, threading.current_thread() is threading.main_thread()))
        if len(seen) == 8:
            ready.set()
        return plain(policy, sample)

    monkeypatch.setattr(ahead, "load_pixels", spy)
    with Ahead(policy, rounds_of(samples), 2) as before:
        before.take(0)
        assert ready.wait(20), "nobody asked for the second round yet"
    assert {i for i, _ in seen} == {s.id for s in samples[:8]} and not any(main for _, main in seen)


def test_a_broken_picture_is_said_when_its_round_comes(world, tmp_path):
    policy, samples = world
    (tmp_path / "broken.png").write_bytes(b"no picture")
    bad = Sample("bad", "s", (str(tmp_path / "broken.png"),), "?", "1", "digit")
    with Ahead(policy, rounds_of([*samples[:4], *samples[4:7], bad]), 2) as before:
        assert len(before.take(0)) == 4
        with pytest.raises(UserError, match="sample bad"):
            before.take(1)
