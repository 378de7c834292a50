"""A ledger that is damaged, foreign or open to others: one line with the file and what to do."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from dataclasses import replace

import pytest

from seethink.ask import Ledger, Reply, tell_lost
from seethink.ask.ledger import LONG, pack, unpack
from seethink.core.errors import UserError

REPLY = Reply("yes", "stop", 3, 1, "m-1", False, 0.5, 0.25, "hm")


@pytest.fixture
def path(tmp_path):
    """A ledger with 400 answers under the keys k0 .. k399."""
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        for n in range(400):
            ledger.answered(ledger.sent(f"k{n}", "s", "m", 1.0), f"k{n}", "s", "m", REPLY)
    return tmp_path / "ledger.sqlite"


def change(path, *statements):
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


def use(path):
    """What a run does with a ledger."""
    with closing(Ledger(path)) as ledger:
        found = [ledger.find(f"k{n}") for n in range(400)]
        ledger.answered(ledger.sent("new", "s", "m", 1.0), "new", "s", "m", REPLY)
        ledger.failed(ledger.sent("bad", "s", "m", 1.0), "refused", 400, 0.0, "no")
        return found, ledger.spent(), ledger.spending(), ledger.typical("s")


def test_what_was_written_is_read(path):
    found, spent, spending, typical = use(path)
    assert found[7] == Reply("yes", "stop", 3, 1, "m-1", True, 0.5, 0.25, "hm")
    assert (spent, spending[0]["attempts"], typical) == (401 * 0.25, 402, (3.0, 1.0))


@pytest.mark.parametrize("page", range(1, 30, 4))
def test_a_damaged_page_is_one_line(path, page):
    data = bytearray(path.read_bytes())
    data[page * 4096 : (page + 1) * 4096] = bytes(range(256)) * 16
    path.write_bytes(data)
    try:
        use(path)
    except UserError as error:
        assert error.code == 2 and str(path) in str(error) and "Move it away" in error.remedy and "\n" not in str(error)


@pytest.mark.parametrize(
    "data", [b"", b"SQLite format 3\0", b"SQLite format 3\0" + b"\xff" * 5000, b"not a database" * 99]
)
def test_what_is_no_database_is_one_line(path, data):
    path.write_bytes(data)
    if data:
        with pytest.raises(UserError, match="cannot use the ledger"):
            use(path)
    else:
        assert use(path)[0] == [None] * 400, "an empty file is a new ledger"


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (["ALTER TABLE call ADD COLUMN more TEXT"], "table call has other columns"),
        (["ALTER TABLE attempt ADD COLUMN more TEXT"], "table attempt has other columns"),
        (["ALTER TABLE call RENAME COLUMN text TO words"], "table call has other columns"),
        (["DROP TABLE call", "CREATE TABLE call (a, b)"], "table call has other columns"),
        (["DROP TABLE attempt", "CREATE TABLE attempt (a, b)"], "no such column: status"),
        (["DROP TABLE call", "CREATE VIEW call AS SELECT 1 AS a"], "other columns"),
        (["UPDATE call SET text = NULL"], "its text is NoneType"),
        (["UPDATE call SET text = x'ff'"], "its text is bytes"),
        (["UPDATE call SET reasoning = x'28b52ffd'"], "its text is bytes that are no whole text"),
        (["UPDATE call SET text = CAST(x'ff' AS TEXT)"], "UTF-8"),
        (["UPDATE call SET prompt_tokens = 'many'"], "its prompt_tokens is str"),
        (["UPDATE call SET stop = NULL"], "its stop is NoneType"),
        (["UPDATE call SET seconds = NULL"], "its seconds is NoneType"),
        (["UPDATE call SET usd = 'much'"], "its usd is str"),
    ],
)
def test_a_foreign_or_damaged_table_is_one_line(path, statements, words):
    change(path, *statements)
    with pytest.raises(UserError, match=words) as error:
        use(path)
    assert error.value.code == 2 and error.value.where == str(path) and "Move it away" in error.value.remedy


def test_half_an_answer_is_none(path):
    change(path, "UPDATE call SET stop = 'abort' WHERE key = 'k0'")
    assert use(path)[0].count(None) == 1


def test_nobody_ever_gave_money_back(path):
    change(path, "UPDATE attempt SET usd = -1e9 WHERE key = 'k0'")
    with closing(Ledger(path)) as ledger:
        assert ledger.spent() == 399 * 0.25


def test_an_older_ledger_becomes_private(path):
    beside = [path.with_name(f"{path.name}-{end}") for end in ("wal", "shm")]
    with closing(sqlite3.connect(path)) as db:  # a reader that keeps the files beside it alive
        db.execute("SELECT * FROM call").fetchone()
        for file in (path, *beside):
            file.chmod(0o644)
        with closing(Ledger(path)):
            assert [file.stat().st_mode & 0o777 for file in (path, *beside)] == [0o600] * 3


def test_a_discarded_answer_is_asked_again_and_stays_paid(path):
    with closing(Ledger(path)) as ledger:
        ledger.discard("k0")
        ledger.discard("unknown")
        assert ledger.find("k0") is None and ledger.find("k1") and ledger.spent() == 400 * 0.25
        assert ledger.spending()[0]["calls"] == 400 and ledger.spending()[0]["prompt_tokens"] == 1200
        ledger.answered(ledger.sent("k0", "t", "m", 1.0), "k0", "t", "m", REPLY)
        assert (
            ledger.find("k0") == ledger.find("k1") and ledger.spent("s") == 100.0 and ledger.spent("s", "t") == 100.25
        )


def test_what_an_endpoint_refused_is_known_once_and_by_model(path):
    with closing(Ledger(path)) as ledger:
        for name, model, error in (
            ("refused", "m", "no"),
            ("refused", "m", "no"),
            ("refused", "n", "never"),
            ("server", "m", "busy"),
        ):
            ledger.failed(ledger.sent("bad", "s", model, 1.0), name, 400, 0.0, error)
        assert (ledger.refusals("m"), ledger.refusals("n"), ledger.refusals("o")) == (["no"], ["never"], [])


def test_long_texts_are_small_in_the_file_and_read_back_by_us_and_by_sql(path):
    noise = "".join(chr(random.Random(1).randrange(0x20, 0xD7FF)) for _ in range(3000))
    texts = [
        "",
        "a" * (LONG - 1),
        "b" * LONG,
        "é" * (LONG // 2 - 1),
        "é" * (LONG // 2),
        "思考" * 9000,
        noise,
        "wait, " * 5000,
    ]
    with closing(Ledger(path)) as ledger:
        for n, text in enumerate(texts):
            reply = replace(REPLY, text=text, reasoning=text[::-1])
            ledger.answered(ledger.sent(f"t{n}", "s", "m", 1.0), f"t{n}", "s", "m", reply)
            assert ledger.find(f"t{n}") == replace(reply, cached=True)
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute(
            "SELECT text, typeof(text), length(text) FROM call WHERE key LIKE 't%' ORDER BY key"
        ).fetchall()
        db.create_function("unpack", 1, unpack)
        read = [text for (text,) in db.execute("SELECT unpack(text) FROM call WHERE key LIKE 't%' ORDER BY key")]
    assert read == texts and [unpack(row[0]) for row in rows] == texts
    assert [kind for _, kind, _ in rows] == ["blob" if len(t.encode()) >= LONG else "text" for t in texts]
    assert all(
        length < 200 for text, (_, kind, length) in zip(texts, rows, strict=True) if kind == "blob" and text != noise
    )


@pytest.mark.parametrize("where", range(4, 40, 5))
def test_a_damaged_long_text_is_one_line(path, where):
    blob = bytearray(pack("I look at it, and then I look at it again. " * 200))
    blob[where % len(blob)] ^= 0x55
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE call SET text = ? WHERE key = 'k7'", (bytes(blob),))
        db.commit()
    with closing(Ledger(path)) as ledger:
        assert ledger.find("k6")
        with pytest.raises(UserError, match="answer k7 is damaged: its text is bytes that are no whole text") as error:
            ledger.find("k7")
    assert "Move it away" in error.value.remedy


def test_many_answers_are_one_transaction_and_the_loop_goes_on_meanwhile(tmp_path):
    """A second connection sees all of a group or nothing of it."""

    async def main(ledger, db):
        db.execute("BEGIN IMMEDIATE")  # the file is taken: all but what is being written gathers
        waits = [ledger.answered(ledger.sent(f"k{n}", "s", "m", 1.0), f"k{n}", "s", "m", REPLY) for n in range(500)]
        db.execute("COMMIT")
        tasks, seen = [asyncio.create_task(ledger.committed(done)) for done in waits], set()
        tasks[3].cancel()
        while not all(task.done() for task in tasks):
            seen.add(db.execute("SELECT count(*) FROM call").fetchone()[0])
            await asyncio.sleep(0.001)
        assert [task.cancelled() for task in tasks] == [n == 3 for n in range(500)], "who leaves takes nobody along"
        sizes = Counter(map(id, waits))
        assert len(sizes) <= 2 and seen <= {0, sizes[id(waits[0])], 500}

    with (
        closing(Ledger(tmp_path / "l.sqlite")) as ledger,
        closing(sqlite3.connect(tmp_path / "l.sqlite", isolation_level=None)) as db,
    ):
        asyncio.run(main(ledger, db))
        assert db.execute("SELECT count(*), count(DISTINCT id), max(id) FROM attempt").fetchone() == (500, 500, 500)
        assert db.execute("SELECT DISTINCT status FROM attempt").fetchall() == [("ok",)]


def test_who_comes_late_does_not_wait_for_ever(tmp_path):
    async def main(ledger):
        done = ledger.answered(ledger.sent("k", "s", "m", 1.0), "k", "s", "m", REPLY)
        for _ in range(2):
            await asyncio.wait_for(ledger.committed(done), 10)

    with closing(Ledger(tmp_path / "l.sqlite")) as ledger:
        asyncio.run(main(ledger))


def test_what_cannot_be_written_is_said_to_all_who_wait_and_ever_after(tmp_path):
    ledger = Ledger(tmp_path / "l.sqlite")
    change(tmp_path / "l.sqlite", "DROP TABLE call")
    done = ledger.answered(ledger.sent("k", "s", "m", 1.0), "k", "s", "m", REPLY)
    for use_it in (done.result, lambda: ledger.sent("k", "s", "m", 1.0), ledger.spent, ledger.close):
        with pytest.raises(UserError, match="no such table: call"):
            use_it()


WRITE = """
import sys, time
from seethink.ask import Ledger, Reply
ledger = Ledger(sys.argv[1])
for n in range(10**6):
    key = f"k{n}"
    attempt = ledger.sent(key, "s", "m", 0.5)
    if n % 3:
        ledger.answered(attempt, key, "s", "m", Reply("yes" * 1000, "stop", 3, 1, "m-1", False, 0.5, 0.25)).result()
        print(n, flush=True)
"""


def test_a_kill_loses_no_answer_that_was_committed_and_leaves_the_rest_as_possibly_paid(tmp_path, capsys):
    path, environment = tmp_path / "l.sqlite", {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen([sys.executable, "-c", WRITE, path], stdout=subprocess.PIPE, text=True, env=environment)
    said = [int(child.stdout.readline()) for _ in range(200)]
    child.kill()
    said += [int(line) for line in child.communicate()[0].splitlines()]
    with closing(Ledger(path)) as ledger:
        assert all(ledger.find(f"k{n}") for n in said)
        (row,) = ledger.spending()
        assert row["lost"] >= said[-1] // 3 and row["lost_usd"] == row["lost"] * 0.5
        assert row["usd"] == pytest.approx(row["lost_usd"] + row["calls"] * 0.25) == pytest.approx(ledger.spent())
        tell_lost(ledger)
        words = f"{row['lost']} requests possibly paid, result unknown, at most {row['lost_usd']:.4f} USD (s m {row['lost']})"
        assert words in capsys.readouterr().err
        ledger.failed(ledger.sent("x", "t", "n", None), "lost", None, None, "interrupted")
        tell_lost(ledger)
        assert "at a price unknown (s m" in capsys.readouterr().err


def test_nothing_lost_is_not_worth_a_word(path, capsys):
    with closing(Ledger(path)) as ledger:
        tell_lost(ledger)
    assert "".join(capsys.readouterr()) == ""
