"""A ledger that is damaged, foreign or open to others: one line with the file and what to do."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from seethink.ask import Ledger, Reply
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
