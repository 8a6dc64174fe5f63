"""Facts on disk: how this version writes them, and how it reads those that other versions wrote."""

import json
import sqlite3

import pytest

from pushengine.errors import JournalCorruptError
from pushengine.journal import facts
from pushengine.journal.facts import KINDS, FactRow, PushRow
from pushengine.journal.store import JournalFile
from pushengine.push.outcome import target_of

SAMPLES = {
    "push_planned": {
        "target": {"table": "T", "mode": "append", "keys": []},
        "source": ["a.csv"],
        "schema": {"columns": []},
    },
    "session_started": {"pid": 1, "resumed": True, "fingerprint": [["/a", 1, 2, "x", 3, 4, 5]]},
    "job_created": {"job_id": "j"},
    "chunk_sending": {
        "job_id": "j",
        "chunk_id": "000000",
        "rows": 2,
        "first_row": 0,
        "end_row": 2,
        "payload_bytes": 9,
        "digests": {"md5": "0"},
    },
    "chunk_settled": {"job_id": "j", "chunk_id": "000000", "is_present": True, "how": "count"},
    "rows_rejected": {"job_id": "j", "rows": 3, "file": "/rejects/p.csv"},
    "source_acked": {"job_id": "j", "rows": 2, "sha256": ["00"]},
    "job_sealed": {"job_id": "j", "chunks": 1, "verified": "checksum"},
    "job_polled": {"job_id": "j", "status": "RUNNING"},
    "job_settled": {"job_id": "j", "status": "DONE", "logs": ["well"]},
    "push_finished": {"receipt": {"status": "DONE"}},
    "push_failed": {"receipt": {"status": "ERROR"}, "error": "why", "error_type": "JobFailedError"},
    "push_resolved": {"is_loaded": True, "receipt": {"status": "DONE"}},
    "push_interrupted": {"receipt": {"status": "INTERRUPTED"}},
}


def sample(kind):
    fields = KINDS[kind].__dataclass_fields__
    return SAMPLES.get(kind, {"job_id": "j"} if "job_id" in fields else {})


def with_ids(kind):
    fields = KINDS[kind].__dataclass_fields__
    return sample(kind) | ({"chunk_id": "000000"} if "chunk_id" in fields else {})


@pytest.mark.parametrize("kind", KINDS)
def test_a_fact_is_read_back_unchanged(kind):
    fact = KINDS[kind].from_body(with_ids(kind))
    row = FactRow.of("p", 1.0, fact)
    assert row.kind == kind
    assert with_ids(kind).items() <= row.body.items()
    assert FactRow("p", 1.0, kind, json.loads(json.dumps(row.body))).fact == fact


@pytest.mark.parametrize("kind", KINDS)
def test_fields_that_a_newer_version_added_to_a_fact_are_ignored(kind):
    body = with_ids(kind)
    assert KINDS[kind].from_body(body | {"future_field": [1]}) == KINDS[kind].from_body(body)


def test_a_row_of_a_kind_from_a_newer_version_has_no_fact():
    assert FactRow("p", 1.0, "future_kind", {"job_id": "j"}).fact is None


def test_bodies_have_the_keys_that_older_versions_expect():
    started, resumed = facts.SessionStarted(pid=1, resumed=False), facts.SessionStarted(pid=1, resumed=True)
    assert started.to_body() == {"pid": 1, "resumed": False}
    assert resumed.to_body() == {"pid": 1, "resumed": True, "fingerprint": None}
    assert facts.PushRestarted(reason="r").to_body() == {"reason": "r"}
    schema = {"keys": [], "columns": []}
    assert facts.PushRestarted(reason="r", schema=schema).to_body() == {"reason": "r", "schema": schema}
    planned = facts.PushPlanned(target={"table": "T"}).to_body()
    assert planned.keys().isdisjoint({"options", "known", "changes", "notes"})
    assert facts.PushFailed(receipt={}).to_body() == {"error": "", "error_type": "", "receipt": {}}


def test_unknown_fields_in_the_target_of_a_newer_version_are_ignored():
    planned = facts.PushPlanned(target={"table": "T", "mode": "upsert", "keys": ["K"], "future_field": 1})
    target = target_of(planned)
    assert (target.table, target.mode, target.keys) == ("T", "upsert", ("K",))


@pytest.mark.parametrize("body", ["[]", "7", "null", '"text"', "{", '{"rows": 1}'])
def test_a_fact_with_an_invalid_body_means_a_damaged_journal(tmp_path, body):
    path = tmp_path / "journal.sqlite3"
    file = JournalFile(path)
    row = PushRow("p", "identity", "team", "pool", "T", "a.csv", 1.0, 1.0, "open")
    with file.transaction():
        file.begin_push(row)
        file.append(FactRow.of("p", 1.0, facts.JobCreated(job_id="j")))
    file.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE facts SET body = ?", (body,))
    db.close()
    file = JournalFile(path)
    with pytest.raises(JournalCorruptError, match="push p"):
        file.facts("p")
    file.close()
