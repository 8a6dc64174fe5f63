"""Wide tables and files of many row groups: ten times the columns or row groups cost about ten times the work, and bounded memory.

Work is counted, not timed: the calls of Python and C functions. What C code does within one call is not counted.
"""

import asyncio
import io
import subprocess
import sys
import textwrap

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest

from pushengine.config.options import LoadOptions
from pushengine.config.settings import EngineSettings
from pushengine.errors import SchemaError
from pushengine.parquet.footer import TAIL_BYTES, Footer, footer_length
from pushengine.pipeline.source_reader import SourceReader
from pushengine.push.plan import plan_source
from pushengine.runtime.files import LocalFileSystem
from pushengine.schema.drift import ColumnMatcher, describe_changes
from pushengine.schema.inference import SchemaInference
from pushengine.schema.known import KnownColumn, KnownTable
from pushengine.schema.rules import RequestedType, SchemaRules
from pushengine.sources.registry import open_source
from pushengine.sources.threaded import ThreadSource

COLUMNS = [4000, pytest.param(20_000, marks=pytest.mark.slow)]
GROUPS = [40_000, pytest.param(200_000, marks=pytest.mark.slow)]
pytestmark = pytest.mark.timeout(300)
TIMES = 10
MOST_TIMES = 13.0


class Calls:
    """Counts the calls that are made within the block, on this thread."""

    def __init__(self):
        self.made = 0

    def __enter__(self):
        sys.setprofile(self._on_event)
        return self

    def __exit__(self, *_exc):
        sys.setprofile(None)

    def _on_event(self, _frame, event, _arg):
        self.made += event in ("call", "c_call")


class InlineWorkers:
    async def read(self, function, *args, **kwargs):
        return function(*args, **kwargs)

    encode = read


def assert_in_proportion(measure, most):
    few, many = measure(most // TIMES), measure(most)
    assert few > most // TIMES // 100
    assert many <= few * MOST_TIMES, (few, many, many / few)


def table_of(columns, rows=2, prefix="C"):
    kinds = [
        pa.array([f"text {row}" for row in range(rows)]),
        pa.array(range(rows), pa.int64()),
        pa.array([0.5] * rows),
    ]
    return pa.table({f"{prefix}{number}": kinds[number % 3] for number in range(columns)})


def read_whole(source, rules=None):
    """Infer the schema of a source and read all of its rows, as a push does. Return the calls made, the schema and the rows."""
    settings = EngineSettings()
    workers = InlineWorkers()

    async def read():
        opened = ThreadSource(
            open_source(source, format=None, settings=settings, filesystem=LocalFileSystem()), workers.read
        )
        reader = SourceReader(opened, settings, rules or SchemaRules(), workers)
        inferred = await reader.infer(None)
        await reader.passthrough_blocks(inferred.schema)
        rows = 0
        for block in opened.source.open():
            rows += block.decode().rows
        return inferred.schema, rows

    with Calls() as calls:
        schema, rows = asyncio.run(read())
    return calls.made, schema, rows


@pytest.mark.parametrize("most", COLUMNS)
@pytest.mark.parametrize("kind", ["csv", "parquet", "frame"])
def test_reading_a_table_scales_with_its_columns(tmp_path, kind, most):
    def measure(columns):
        table, path = table_of(columns), tmp_path / f"{columns}.{kind}"
        if kind == "csv":
            arrow_csv.write_csv(table, path)
        elif kind == "parquet":
            pq.write_table(table, path)
        calls, schema, rows = read_whole(table if kind == "frame" else path)
        assert (len(schema.columns), rows) == (columns, 2)
        return calls

    assert_in_proportion(measure, most)


@pytest.mark.parametrize("most", COLUMNS)
def test_files_whose_columns_are_in_another_order_scale_with_their_columns(tmp_path, most):
    def measure(columns):
        folder = tmp_path / str(columns)
        folder.mkdir()
        table = table_of(columns)
        pq.write_table(table, folder / "1.parquet")
        pq.write_table(table.select(table.column_names[::-1]), folder / "2.parquet")
        calls, _, rows = read_whole(folder)
        assert rows == 4
        return calls

    assert_in_proportion(measure, most)


@pytest.mark.parametrize("most", COLUMNS)
def test_what_is_requested_and_known_of_columns_scales_with_their_number(most):
    def measure(columns):
        names = [f"C{number}" for number in range(columns)]
        requested = RequestedType("STRING", 10)
        rules = SchemaRules(
            mode="append",
            keys=("C0",),
            column_types=dict.fromkeys(names[::2], requested) | {"X_*": requested},
            select=tuple(names[: columns - 5]),
            exclude=tuple(names[-3:]),
            rename={name: f"{name}_NEW" for name in names[::7]},
            verified_new_columns=True,
        )
        known = KnownTable("T", tuple(KnownColumn(name, "STRING", 10) for name in names[: columns // 2]), ())
        schema = pa.schema([(name, pa.string()) for name in names])
        with Calls() as calls:
            matched = ColumnMatcher(rules, known, "s").match(names)
            inference = SchemaInference(schema, is_text=False, rules=rules, known=known)
            inferred = inference.infer(is_empty=True)
            describe_changes(matched, inferred.schema.columns, known, "append")
        return calls.made

    assert_in_proportion(measure, most)


def test_the_message_about_other_columns_names_a_few_of_them():
    async def batches():
        yield table_of(3000).to_batches()[0]
        yield table_of(3000, prefix="D").to_batches()[0]

    with pytest.raises(SchemaError) as caught:
        asyncio.run(plan_source(batches(), table="T", schema=table_of(3000).schema, options=LoadOptions()))
    assert len(str(caught.value)) < 2000


def footer_of(columns, groups):
    out = io.BytesIO()
    with pq.ParquetWriter(out, table_of(columns).schema) as writer:
        for _ in range(groups):
            writer.write_table(table_of(columns))
    data = out.getvalue()
    length = footer_length(data[-TAIL_BYTES:], len(data))
    return data[-TAIL_BYTES - length : -TAIL_BYTES]


def with_groups(groups):
    """Return a footer with this many row groups: those of a small file, repeated."""
    footer = Footer(footer_of(2, 10))
    return footer.with_groups(2 * groups, [footer.raw_group(number % 10) for number in range(groups)])


@pytest.mark.parametrize("most", GROUPS)
def test_a_footer_scales_with_its_row_groups(most):
    def measure(groups):
        raw = with_groups(groups)
        with Calls() as calls:
            footer = Footer(raw)
            assert footer.group_count == groups
            for number in range(0, groups, 100):
                assert footer.sizes(number)[0] == 2
        return calls.made

    assert_in_proportion(measure, most)


PEAK_OF_A_PLAN = """
    import asyncio, sys
    from pathlib import Path
    from pushengine.config.settings import EngineSettings
    from pushengine.push.plan import plan_source

    class NoPandas:
        def find_spec(self, name, *_args):
            if name == "pandas":
                raise ImportError

    sys.meta_path.insert(0, NoPandas())
    settings = EngineSettings(max_memory_bytes=int(sys.argv[2]))
    plan = asyncio.run(plan_source(sys.argv[1], table="T", settings=settings))
    status = Path("/proc/self/status").read_text()
    print(plan.is_sample_complete or plan.sampled_rows > 10_000, int(status.partition("VmHWM:")[2].split()[0]) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize("groups", GROUPS)
def test_a_file_of_many_row_groups_takes_no_more_memory_than_the_budget(tmp_path, groups):
    """Arrow takes 1 kB for each column of each row group."""
    path, budget = tmp_path / "many.parquet", 96 * 1024 * 1024
    table = pa.table({"A": [1], "B": ["x"]})
    with pq.ParquetWriter(path, table.schema) as writer:
        for _ in range(groups):
            writer.write_table(table)
    command = [sys.executable, "-c", textwrap.dedent(PEAK_OF_A_PLAN), str(path), str(budget)]
    is_read, peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert is_read == "True"
    assert int(peak) <= 150_000_000 + budget


def test_more_columns_than_fit_into_memory_are_refused():
    settings = EngineSettings(max_memory_bytes=32 * 1024 * 1024)
    with pytest.raises(SchemaError, match=r"3,000 columns take about 61\.4 MB") as caught:
        asyncio.run(plan_source(table_of(3000), table="T", settings=settings))
    assert caught.value.hint.startswith("set max_memory_bytes = 61440000")
    needed = EngineSettings(max_memory_bytes=61_440_000)
    assert len(asyncio.run(plan_source(table_of(3000), table="T", settings=needed)).columns) == 3000
