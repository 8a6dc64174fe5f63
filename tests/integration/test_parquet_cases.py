"""Parquet and Arrow files of other writers that were read wrongly, and their neighbours, through the command line."""

import datetime as dt
import shutil
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.command_line import CommandLine
from support.int96 import EPOCH_DAY, int96, write_int96

CASES = Path(__file__).parent / "cases" / "parquet-and-frames"
DAY = 86_400
NOON = dt.datetime(2024, 1, 31, 12)


@pytest.fixture
def cli(tmp_path, monkeypatch):
    shutil.copytree(CASES, tmp_path, dirs_exist_ok=True)
    return CommandLine(tmp_path, monkeypatch)


@pytest.fixture(params=["as it is", "decoded"])
def way(request, cli):
    """The words that make the push send files as they are, or decode them."""
    (cli.folder / "decoded.toml").write_text("[engine]\nparquet_as_it_is = false\n")
    return () if request.param == "as it is" else ("--config", cli.folder / "decoded.toml")


def test_a_time_of_24_hours_is_refused_with_row_and_column(cli, way):
    refused = cli.refused("t24.parquet", *way)
    assert "t24.parquet, row 1, column t" in refused.error
    assert "'24:00:00' does not fit t STRING: not a time of day" in refused.error
    cli.loaded("t24.parquet", *way, "--exclude", "t")
    assert cli.rows() == [(1,)]


@pytest.mark.parametrize(
    ("number", "shown"), [(-1, "-00:00:00.000001"), (DAY * 10**6, "24:00:00"), (2**62, "1281023894:00")]
)
def test_times_outside_of_a_day_are_refused_wherever_they_are(cli, number, shown):
    numbers = pa.array([*[0] * 100_000, number], pa.int64())
    pq.write_table(pa.table({"t": numbers.view(pa.time64("us"))}), cli.folder / "f.parquet")
    refused = cli.refused("f.parquet")
    assert "f.parquet, row 100001, column t" in refused.error
    assert shown in refused.error


def test_an_int96_of_julian_day_0_is_refused(cli, way):
    refused = cli.refused("julian_day_zero.parquet", *way)
    assert "julian_day_zero.parquet, row 2, column t" in refused.error
    assert "'Julian day 0 00:00:00'" in refused.error
    assert "the platform supports only the years 1400 to 9999" in refused.error


def test_an_int96_with_a_time_past_its_day_is_refused(cli, way):
    write_int96(cli.folder / "f.parquet", [int96(EPOCH_DAY, 0), int96(EPOCH_DAY, DAY * 10**9)])
    refused = cli.refused("f.parquet", *way)
    assert "f.parquet, row 2, column t: '1970-01-01 + 86400000000000 ns'" in refused.error
    assert "its time of day is not within 24 hours" in refused.error


def test_a_column_name_that_is_not_utf8_is_a_damaged_file(cli):
    refused = cli.refused("name.arrow")
    assert "name.arrow: not a readable Arrow file" in refused.error


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("kind", ["INT96", "INT64"])
def test_typed_timestamps_finer_than_a_microsecond_are_cut_and_told(cli, way, kind, first):
    (cli.folder / "decoded.toml").write_text(
        f'[engine]\nparquet_as_it_is = {str(not way).lower()}\ntimestamps = "{kind}"\nsample_bytes = 65536\n'
    )
    words = ("--config", cli.folder / "decoded.toml")
    cli.switch(accepts_int64_timestamps=True)
    nanos = pa.array([first, *[1000] * 200_000, -1, 1999, 2**63 - 1], pa.int64()).view(pa.timestamp("ns"))
    table = pa.table({"n": range(len(nanos)), "t": nanos})
    pq.write_table(
        table, cli.folder / "f.parquet", use_deprecated_int96_timestamps=kind == "INT96", compression="snappy"
    )
    note = "t: timestamps finer than a microsecond are cut to microseconds"
    assert (note in cli.run("plan", "f.parquet", "--table", "T", *words, "--json").json["notes"]) == bool(first)
    receipt = cli.loaded("f.parquet", *words)
    assert note in receipt["notes"]
    assert receipt["restarts"] == (0 if first else 1)
    epoch = dt.datetime(1970, 1, 1)
    assert [row[1] for row in cli.rows(order="n DESC")[:3]] == [
        epoch + dt.timedelta(microseconds=micros) for micros in ((2**63 - 1) // 1000, 1, -1)
    ]


def spark(path, table, *keys, version="3.1.2", **options):
    metadata = {f"org.apache.spark.{key}": "" for key in keys}
    metadata |= {"org.apache.spark.version": version} if version else {}
    pq.write_table(table.replace_schema_metadata(metadata), path, **options)


OLD_DATE, NEW_DATE = dt.date(1582, 10, 14), dt.date(1582, 10, 15)
OLD, NEW = dt.datetime(1899, 12, 31, 23, 59, 59, 999999), dt.datetime(1900, 1, 1)
INT96_FILE = {"use_deprecated_int96_timestamps": True}


@pytest.mark.parametrize(
    ("keys", "version", "is_old"),
    [((), "3.1.2", False), (("legacyINT96",), "3.1.2", True), ((), "3.0.1", True), ((), "2.4.8", True), (("legacyDateTime",), "3.5.0", False), ((), "", False), ((), "10.0.0", False)],
)  # fmt: skip
def test_int96_in_sparks_old_calendar_is_refused_by_the_key_of_the_file(cli, way, keys, version, is_old):
    stamps = pa.array([NEW, None, *[NOON] * 50_000, OLD], pa.timestamp("us"))
    spark(cli.folder / "f.parquet", pa.table({"t": stamps}), *keys, version=version, **INT96_FILE)
    spark(cli.folder / "new.parquet", pa.table({"t": stamps.slice(0, 5)}), *keys, version=version, **INT96_FILE)
    cli.loaded("new.parquet", *way)
    assert min(row[0] for row in cli.rows() if row[0]) == NEW
    notes = cli.run("plan", "new.parquet", "--table", "T", *way, "--json").json["notes"]
    assert any("new.parquet is in Spark's old calendar" in note for note in notes) == is_old
    if not is_old:
        cli.loaded("f.parquet", *way)
        assert min(row[0] for row in cli.rows() if row[0]) == OLD
        return
    refused = cli.refused("f.parquet", *way)
    assert "f.parquet, row 50003, column t: a value before 1900-01-01 is in Spark's old calendar" in refused.error
    assert "int96RebaseModeInWrite=CORRECTED" in refused.hint


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [(OLD_DATE, NEW_DATE, pa.date32()), (OLD, NEW, pa.timestamp("us")), (OLD, NEW, pa.timestamp("us", "UTC")), (OLD.replace(microsecond=0), NEW, pa.timestamp("ms"))],
    ids=str,
)  # fmt: skip
def test_dates_and_int64_timestamps_in_sparks_old_calendar_are_refused(cli, way, old, new, kind):
    (cli.folder / "decoded.toml").write_text(
        f'[engine]\nparquet_as_it_is = {str(not way).lower()}\ntimestamps = "INT64"\n'
    )
    words = ("--config", cli.folder / "decoded.toml")
    cli.switch(accepts_int64_timestamps=True)
    for keys, version in ((("legacyDateTime",), "3.5.0"), ((), "2.4.8")):
        spark(cli.folder / "new.parquet", pa.table({"n": [1], "d": pa.array([new], kind)}), *keys, version=version)
        receipt = cli.loaded("new.parquet", *words)
        assert any("Spark's old calendar" in note for note in receipt["notes"])
        spark(
            cli.folder / "f.parquet", pa.table({"n": [1, 2], "d": pa.array([new, old], kind)}), *keys, version=version
        )
        assert "f.parquet, row 2, column d: a value before 1" in cli.refused("f.parquet", *words).error
    spark(cli.folder / "f.parquet", pa.table({"n": [1, 2], "d": pa.array([new, old], kind)}), version="3.0.0")
    cli.loaded("f.parquet", *words)
    assert len(cli.rows()) == 2


def footer_of(path):
    data = path.read_bytes()
    length = int.from_bytes(data[-8:-4], "little")
    return data[: -8 - length], data[-8 - length : -8]


def with_rows(path, old, new, *, places):
    """Replace a number of rows in the footer: `places` are the places of that number, in order."""
    data, footer = footer_of(path)
    number, changed = (
        bytes([0x16, 2 * old & 0x7F | 0x80, 2 * old >> 7]),
        bytes([0x16, 2 * new & 0x7F | 0x80, 2 * new >> 7]),
    )
    parts = footer.split(number)
    assert len(parts) > max(places) + 1
    out = parts[0]
    for place, part in enumerate(parts[1:]):
        out += (changed if place in places else number) + part
    path.write_bytes(data + out + len(out).to_bytes(4, "little") + b"PAR1")


def test_row_groups_whose_columns_have_other_numbers_of_values_are_damaged(cli, way):
    path = cli.folder / "f.parquet"
    for places, reason in (
        ((0, 2), "90 rows, but 100 values in column a"),
        ((0,), "100 rows in row groups, 90 in all"),
        ((2,), "90 rows, but 100 values"),
    ):
        pq.write_table(pa.table({"a": range(100)}), path, store_schema=False, write_statistics=False)
        with_rows(path, 100, 90, places=places)
        metadata = pq.read_metadata(path)
        assert 90 in (metadata.num_rows, metadata.row_group(0).num_rows)
        refused = cli.refused("f.parquet", *way)
        assert f"not a readable Parquet file: {reason}" in refused.error


def test_tiny_row_groups_are_joined(cli, way):
    table = pa.table(
        {
            "n": range(3000),
            "s": [f"text {number}" for number in range(3000)],
            "t": pa.array([NOON] * 3000, pa.timestamp("us")),
        }
    )
    pq.write_table(table, cli.folder / "f.parquet", row_group_size=1, **INT96_FILE)
    receipt = cli.loaded("f.parquet", *way)
    assert receipt["chunks"] == 1
    assert receipt["payload_bytes"] < (cli.folder / "f.parquet").stat().st_size / 10
    assert cli.rows() == list(zip(range(3000), table["s"].to_pylist(), [NOON] * 3000, strict=True))


def test_a_time_of_duckdb_lands_or_is_refused(cli):
    duckdb.sql(f"copy (select time '23:59:59.999999' as t) to '{cli.folder / 'f.parquet'}'")
    cli.loaded("f.parquet")
    assert cli.rows() == [("23:59:59.999999",)]
    duckdb.sql(f"copy (select time '24:00:00' as t) to '{cli.folder / 'f.parquet'}'")
    assert "row 1, column t" in cli.refused("f.parquet").error
