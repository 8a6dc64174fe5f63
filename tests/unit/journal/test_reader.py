"""Which push the words of a user name: a push id, a job id or a table."""

import contextlib
import re

import pytest

from pushengine.errors import ConfigError
from pushengine.journal.facts import FactRow, JobCreated, PushRow
from pushengine.journal.reader import JournalReader
from pushengine.journal.store import JournalFile

PUSHES = {  # push id: (table, jobs, time)
    "20260101T000000Z-aa": ("ORDERS", ["ad11", "ad12"], 1.0),
    "20260102T000000Z-bb": ("Orders", ["be21"], 2.0),
    "20260102T000000Z-bc": ("GR\u00d6SSE", ["be31"], 3.0),
    "20260103T000000Z-cc": ("2026", [], 4.0),
    "20260104T000000Z-dd": ("be", [], 5.0),
    "20260104T000000Z-ee": ("20260101T000000Z-aa", [], 6.0),
    "20260104T000000Z-ff": ("ad12", [], 7.0),
}


@pytest.fixture
def reader(tmp_path):
    path = tmp_path / "journal.sqlite3"
    with contextlib.closing(JournalFile(path)) as file:
        for push_id, (table, jobs, at) in PUSHES.items():
            file.begin_push(PushRow(push_id, push_id, "acme", "pool", table, "a.csv", at, at, "done"))
            for job in jobs:
                file.append(FactRow.of(push_id, at, JobCreated(job_id=job)))
        file._db.execute(
            "INSERT INTO facts (push_id, at, kind, body) VALUES ('20260101T000000Z-aa', 1, 'job_created', '{')"
        )
    with JournalReader(path) as opened:
        yield opened


@pytest.mark.parametrize(
    ("words", "push_id"),
    [
        ("20260103T000000Z-cc", "20260103T000000Z-cc"),
        ("20260103", "20260103T000000Z-cc"),
        ("20260101T000000Z-aa", "20260101T000000Z-aa"),  # also the name of a table
        ("be21", "20260102T000000Z-bb"),
        ("be3", "20260102T000000Z-bc"),
        ("ad", "20260101T000000Z-aa"),  # two jobs of one push
        ("ad12", "20260101T000000Z-aa"),  # also the name of a table
        ("orders", "20260102T000000Z-bb"),
        ("gr\u00f6sse", "20260102T000000Z-bc"),
        ("2026", "20260103T000000Z-cc"),  # an ambiguous prefix, and the whole name of a table
        ("BE", "20260104T000000Z-dd"),
        ("be", "20260104T000000Z-dd"),
    ],
)
def test_a_push_is_found_by_its_id_then_by_a_job_then_as_the_newest_of_a_table(reader, words, push_id):
    assert reader.find(words).push_id == push_id


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("20260102", "2 pushes start with '20260102' (choose one: 20260102T000000Z-bc, 20260102T000000Z-bb)"),
        ("b", "2 jobs of pushes start with 'b' (choose one: 20260102T000000Z-bc, 20260102T000000Z-bb)"),
        ("ORDER", "the journal has no push, job or table ORDER (`pushengine history` lists pushes)"),
        ("%", "the journal has no push, job or table % (`pushengine history` lists pushes)"),
    ],
)
def test_words_that_name_no_push_or_several_are_an_error(reader, words, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$") as caught:
        reader.find(words)
    assert caught.value.key == "push_id"


def test_a_push_to_resume_is_found_by_its_id_only(reader):
    assert reader.find_push("20260103").push_id == "20260103T000000Z-cc"
    with pytest.raises(ConfigError, match="2 pushes start with '20260102'"):
        reader.find_push("20260102")
    for words in ("be21", "Orders"):
        with pytest.raises(ConfigError, match=f"{words} is not the id of a push") as caught:
            reader.find_push(words)
        assert caught.value.hint == f"`pushengine show {words}` finds push 20260102T000000Z-bb"
    with pytest.raises(ConfigError, match="the journal has no push nothing"):
        reader.find_push("nothing")
