"""What makes two pushes the same push: identity, fingerprint and recipe."""

import hashlib
import json
import os
import random

import pyarrow as pa
import pytest
from support.files import file_ref
from support.schemas import inference_of

from pushengine.config.options import LoadOptions
from pushengine.config.settings import EngineSettings
from pushengine.errors import SchemaError, SourceReadError
from pushengine.interfaces import SourceBatch
from pushengine.model import Target
from pushengine.push.identity import (
    chunk_recipe,
    planned_settings,
    push_identity,
    recipe_change,
    resumed_settings,
    source_patterns,
)
from pushengine.runtime.files import LocalFileSystem
from pushengine.schema.columns import dump_schema, load_schema
from pushengine.sources.file_hash import FileHash
from pushengine.sources.fingerprint import compare_files, fingerprint_files

PROBE = 64 * 1024


def identity(**changes):
    target = {"table": "T", "mode": "append", "keys": (), "connection_id": None} | changes.pop("target", {})
    arguments = {
        "team": "acme",
        "pool_id": "p",
        "target": Target(**target),
        "source": ["/a.csv"],
        "source_format": None,
        "options": LoadOptions(**changes.pop("options", {})),
    }
    return push_identity(**(arguments | changes))


@pytest.mark.parametrize(
    "change",
    [
        {"team": "other"},
        {"pool_id": "q"},
        {"source": ["/b.csv"]},
        {"source": ["/a.csv", "/b.csv"]},
        {"source_format": "csv"},
        {"options": {"column_types": {"A": "STRING"}}},
        {"options": {"rename": {"A": "B"}}},
        {"options": {"select": ("A",)}},
        {"options": {"exclude": ("A",)}},
        {"options": {"allow_empty": True}},
        {"target": {"table": "U"}},
        {"target": {"mode": "replace"}},
        {"target": {"mode": "upsert", "keys": ("A",)}},
        {"target": {"connection_id": "c"}},
        {"target": {"duplicate_removal_column": "A"}},
    ],
    ids=str,
)
def test_everything_that_makes_a_different_push_changes_the_identity(change):
    assert identity(**change) != identity()


def test_equivalent_commands_have_the_same_identity():
    assert identity(target={"table": "t"}) == identity()
    types, swapped = {"A": "STRING", "B": "DATE"}, {"B": "DATE", "A": "STRING"}
    assert identity(options={"column_types": types}) == identity(options={"column_types": swapped})


def test_commands_that_earlier_versions_knew_keep_their_identity():
    """Another identity would start a new push beside the unfinished one of an earlier version."""
    assert identity() == "102ea4d4454e395523d5359868a718f15867ff912ecd933c98c76c1c8c1498bd"
    options = {"column_types": {"A": "STRING"}}
    target = {"mode": "upsert", "keys": ("A",), "connection_id": "c", "duplicate_removal_column": "B"}
    assert (
        identity(target=target, options=options, source_format="csv")
        == "0d99f5d61827e577bfe07969625cb4d61b415fb34634cead5bf096911dfdae27"
    )


def test_source_patterns_are_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert source_patterns("a.csv") == source_patterns(tmp_path / "a.csv") == [str(tmp_path / "a.csv")]
    assert source_patterns(["a.csv", "b/*.csv"]) == [str(tmp_path / "a.csv"), str(tmp_path / "b/*.csv")]


@pytest.mark.parametrize(
    "make", [lambda: pa.table({"A": [1]}), list, lambda: [pa.table({"A": [1]})], lambda: iter("a")]
)
def test_objects_in_memory_have_no_source_patterns(make):
    assert source_patterns(make()) is None


@pytest.mark.parametrize(
    "change",
    [
        {"chunk_bytes": 1024 * 1024},
        {"file_type": "CSV"},
        {"compression": "ZSTD"},
        {"timestamps": "INT64"},
        {"csv_delimiter": ";"},
        {"csv_encoding": "latin-1"},
    ],
    ids=str,
)
def test_the_recipe_contains_the_settings_that_determine_the_bytes(change):
    assert chunk_recipe(EngineSettings(**change)) != chunk_recipe(EngineSettings())


def test_the_recipe_contains_no_other_settings():
    assert chunk_recipe(EngineSettings(max_uploads=9, max_attempts=2)) == chunk_recipe(EngineSettings())
    assert json.loads(json.dumps(chunk_recipe(EngineSettings()))) == chunk_recipe(EngineSettings())


def test_only_a_push_that_is_resumed_by_its_id_keeps_its_limit_of_rejected_rows(tmp_path):
    recipe = json.loads(json.dumps(chunk_recipe(EngineSettings(max_rejects=0.5, rejects=tmp_path))))
    assert change_of(recipe, EngineSettings()) is None
    assert change_of(PLAIN, EngineSettings(max_rejects=3)) is None
    resumed = resumed_settings(recipe, EngineSettings(max_rejects=3))
    assert (resumed.max_rejects, resumed.rejects) == (0.5, tmp_path)
    assert resumed_settings(PLAIN, EngineSettings(max_rejects=3)).max_rejects == 0
    assert planned_settings(recipe, EngineSettings(max_rejects=3)).max_rejects == 3


def change_of(before, now, *, is_text=True, is_passthrough=False):
    return recipe_change(json.loads(json.dumps(before)), now, is_text=is_text, is_passthrough=is_passthrough)


PLAIN = chunk_recipe(EngineSettings())


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ({"file_type": "CSV"}, "file_type"),
        ({"compression": "ZSTD"}, "compression"),
        ({"timestamps": "INT64"}, "timestamps"),
        ({"csv_delimiter": ";"}, "csv"),
        ({"csv_encoding": "latin-1"}, "csv"),
        ({"chunk_bytes": 1024 * 1024}, None),
        ({"encoder_threads": 7}, None),
        ({"max_uploads": 3, "max_attempts": 2}, None),
        ({"parquet_as_it_is": False}, None),  # does not matter for text
        ({}, None),
    ],
    ids=str,
)
def test_only_settings_that_determine_the_encoding_make_recipes_differ(change, changed):
    found = change_of(PLAIN, EngineSettings(**change))
    assert (found and found.partition("changed ")[2]) == changed
    back = recipe_change(chunk_recipe(EngineSettings(**change)), EngineSettings(), is_text=True, is_passthrough=False)
    assert (back is None) == (changed is None)


def test_another_version_of_the_library_matters_only_if_chunks_are_encoded():
    older = PLAIN | {"pyarrow": "1.0", "machine": "vax"}
    assert all(name in change_of(older, EngineSettings()) for name in ("machine", "pyarrow"))
    assert "pyarrow" in change_of(older, EngineSettings(), is_text=False)
    assert change_of(older, EngineSettings(), is_text=False, is_passthrough=True) is None
    assert "chunking" in change_of(older | {"chunking": 1}, EngineSettings(), is_text=False, is_passthrough=True)


def test_of_the_settings_of_text_files_only_those_of_values_matter_for_other_sources():
    structure = EngineSettings(csv={"delimiter": ";", "skip_lines": 1, "null": ("N",)})
    assert change_of(PLAIN, structure, is_text=False) is None
    for values in ({"decimal": ","}, {"date_format": ("dd/mm/yyyy",)}, {"locale": "de"}, {"subsecond": "cut"}):
        before = chunk_recipe(EngineSettings(csv=values))
        assert "csv" in change_of(before, EngineSettings(), is_text=False)
        assert change_of(before, EngineSettings(csv=values), is_text=False) is None
        assert change_of(before, EngineSettings(), is_text=False, is_passthrough=True) is None


def test_another_cut_of_decoded_files_matters_only_for_them():
    for older in (PLAIN | {"decoding": 1}, {key: value for key, value in PLAIN.items() if key != "decoding"}):
        assert "decoding" in change_of(older, EngineSettings(), is_text=False)
        assert change_of(older, EngineSettings(), is_text=False, is_passthrough=True) is None
        assert change_of(older, EngineSettings()) is None


def test_a_recipe_of_an_earlier_version_that_contains_defaults_is_equivalent():
    defaults = {
        "file_type": "PARQUET",
        "compression": "SNAPPY",
        "timestamps": "INT96",
        "as_it_is": True,
        "csv": [None, "utf-8"],
    }
    assert change_of(PLAIN | defaults, EngineSettings()) is None
    assert "compression" in change_of(PLAIN | defaults | {"compression": "ZSTD"}, EngineSettings())
    assert planned_settings(PLAIN | defaults, EngineSettings()) == planned_settings(PLAIN, EngineSettings())


def test_a_push_resumes_with_the_cut_it_started_with():
    before = EngineSettings(chunk_bytes=1024 * 1024, encoder_threads=8, csv_delimiter=";")
    now = planned_settings(chunk_recipe(before), EngineSettings(encoder_threads=2, max_uploads=3))
    assert (now.fitting_chunk_bytes, now.encoder_threads, now.csv.delimiter) == (1024 * 1024, 8, ";")
    assert now.max_uploads == 3


def test_values_of_a_newer_version_are_ignored_but_told():
    recipe = PLAIN | {"csv": {"dialect": "of-tomorrow", "delimiter": ";"}}
    assert planned_settings(recipe, EngineSettings()).csv == EngineSettings().csv
    assert "csv" in change_of(recipe, EngineSettings())


def test_a_cut_that_no_longer_fits_into_memory_is_a_change_of_the_recipe():
    before = chunk_recipe(EngineSettings(chunk_bytes=16 * 1024 * 1024))
    less = EngineSettings(max_memory_bytes=32 * 1024 * 1024)
    assert "max_memory_bytes" in change_of(before, less)
    assert change_of(before, less, is_text=False, is_passthrough=True) is None  # files stay on disk


def test_the_digest_of_a_file_is_that_of_its_bytes_for_every_step_size(tmp_path):
    data = random.Random(5).randbytes(3_000_000)
    path = tmp_path / "a"
    path.write_bytes(data)
    for step in (1_000_000, 2_999_999, 3_000_000, 10_000_000):
        one = FileHash(file_ref(path), LocalFileSystem())
        while not one.is_complete:
            one.advance(step)
        assert (one.position, one.hexdigest()) == (3_000_000, hashlib.sha256(data).hexdigest())
    path.unlink()
    with pytest.raises(SourceReadError):
        one.advance(1)


def test_files_compare_as_same_touched_or_changed(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(bytes(1_000_000))
    before = fingerprint(path)
    assert compare_files(before, fingerprint(path)) == "same"
    os.utime(path)
    assert compare_files(before, fingerprint(path)) == "touched"
    moved = path.rename(tmp_path / "b")
    assert compare_files(before, fingerprint(moved)) == "touched"
    with moved.open("r+b") as file:  # an edit between the probes, with the old time of change
        file.seek(200_000)
        file.write(b"x")
    os.utime(moved, ns=(before[0][2], before[0][2]))
    assert compare_files(before, fingerprint(moved)) == "touched"
    moved.write_bytes(bytes(999_999) + b"x")
    assert compare_files(before, fingerprint(moved)) == "changed"
    assert compare_files(before, [*before, *before]) == "changed"
    assert compare_files(None, before) == "changed"
    assert compare_files(None, None) == "same"
    assert compare_files([before[0][:4]], before) == "touched"  # a journal of an earlier version


def fingerprint(*paths):
    return fingerprint_files(LocalFileSystem(), [file_ref(path) for path in paths])


def test_a_fingerprint_is_stable_and_survives_json(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"x" * 1_000_000)
    assert fingerprint(path) == fingerprint(path) == json.loads(json.dumps(fingerprint(path)))


def test_a_fingerprint_of_a_missing_file_is_a_source_error(tmp_path):
    with pytest.raises(SourceReadError, match="cannot be read"):
        fingerprint(tmp_path / "none")


def test_a_fingerprint_depends_on_the_order_of_the_files(tmp_path):
    for name in "ab":
        (tmp_path / name).write_bytes(b"x")
    assert fingerprint(tmp_path / "a", tmp_path / "b") != fingerprint(tmp_path / "b", tmp_path / "a")


MUTATIONS = ("shrink", "grow", "replace", "begin", "middle", "end", "touch")


def mutate(rng, path, kind):
    """Change a file. Half of the time, restore its time of change, as a copy tool may do."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    probes = {"begin": 0, "middle": max(len(data) // 2 - PROBE // 2, 0), "end": max(len(data) - PROBE, 0)}
    if kind == "shrink":
        del data[rng.randrange(len(data)) :]
    elif kind == "grow":
        data += rng.randbytes(rng.randint(1, 1000))
    elif kind == "replace":
        data = bytearray(rng.randbytes(len(data)))
        path.unlink()
    elif kind != "touch":
        at = probes[kind] + rng.randrange(min(PROBE, len(data) - probes[kind]))
        data[at] ^= rng.randint(1, 255)
    path.write_bytes(data)
    restores = kind != "touch" and rng.random() < 0.5
    mtime_ns = before.st_mtime_ns + (0 if restores else rng.randint(1, 10**10))
    os.utime(path, ns=(mtime_ns, mtime_ns))


def test_five_hundred_changes_of_a_file_are_all_detected(tmp_path):
    rng = random.Random(11)
    path = tmp_path / "source"
    for number in range(500):
        path.write_bytes(rng.randbytes(rng.choice([16, 1000, PROBE, PROBE + 1, 3 * PROBE, 1_000_000])))
        known = fingerprint(path)
        mutate(rng, path, MUTATIONS[number % len(MUTATIONS)])
        assert fingerprint(path) != known, (number, MUTATIONS[number % len(MUTATIONS)])


def test_an_edit_between_the_probes_is_detected_by_its_time(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(b"x" * 1_000_000)
    known = fingerprint(path)
    with path.open("r+b") as file:
        file.seek(200_000)
        file.write(b"y")
    os.utime(path, ns=(known[0][2] + 1, known[0][2] + 1))
    assert fingerprint(path) != known


TYPES = [
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    *(pa.float16(), pa.float32(), pa.float64(), pa.bool_(), pa.string(), pa.large_string(), pa.string_view()),
    *(pa.date32(), pa.date64(), pa.decimal128(10, 2), pa.decimal128(38, 0), pa.decimal256(40, 3)),
    *(pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")),
    *(pa.timestamp("us", tz) for tz in ("UTC", "Europe/Berlin", "+02:00")),
    *(pa.time32("s"), pa.time64("us"), pa.null(), pa.dictionary(pa.int32(), pa.string())),
]


@pytest.mark.parametrize("arrow_type", TYPES, ids=str)
def test_a_schema_survives_the_journal_unchanged(arrow_type):
    schema = pa.schema([pa.field("A", arrow_type)])
    inference = inference_of(schema, is_text=False, source="test")
    batch = pa.RecordBatch.from_arrays([pa.nulls(3, arrow_type)], schema=schema)
    try:
        inference.observe(SourceBatch(batch, "test", 0))
        inferred = inference.infer_schema()
    except SchemaError as error:  # a type that cannot be pushed is never journaled
        pytest.skip(f"rejected: {error}")
    assert load_schema(json.loads(json.dumps(dump_schema(inferred)))) == inferred


@pytest.mark.parametrize("text", ["1", "1.5", "0001", "2024-02-03", "2024-02-03 04:05:06.789", "true", "Größe", ""])
def test_a_schema_of_text_survives_the_journal_unchanged(text):
    batch = pa.record_batch({"A": [text, None, text], "K": ["a", "b", "c"]})
    inference = inference_of(batch.schema, is_text=True, keys=("K",), source="test")
    inference.observe(SourceBatch(batch, "test", 0))
    inferred = inference.infer_schema()
    again = load_schema(json.loads(json.dumps(dump_schema(inferred))))
    assert again == inferred
    assert again.keys == ("K",)
