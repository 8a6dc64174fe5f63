"""Every row of a source is either in the table or whole in the list of rejected rows, wherever its process dies."""

import csv
import dataclasses
import io
import json
import tempfile

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.simulation import SCRATCH
from support.table_model import Step
from support.table_stage import MemoryStage

from pushengine.testing import run_in_virtual_time

QUIET = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "derandomize": True,
    "phases": [Phase.explicit, Phase.generate],
}
TYPES = {"QTY": "INTEGER", "CODE": "STRING(6)"}
CODES = st.text(st.sampled_from('aß,"\n日 '), min_size=1, max_size=6)
LONG = st.text(st.sampled_from('bü,"\n'), min_size=7, max_size=30)
NOTES = st.text(st.sampled_from("xyz,\n"), min_size=1, max_size=8).map(lambda text: f"n{text}")
EVERY = st.lists(st.sampled_from(["CAST", "LENGTH", "NULL KEY"]), unique=True, max_size=3)


@dataclasses.dataclass
class Row:
    """A row as it is meant, and the problems that reject it."""

    number: int
    qty: str
    code: str
    note: str
    problems: list
    shape: int = 0

    def fields(self):
        key = "" if "NULL KEY" in self.problems else str(self.number)
        return [key, self.qty, self.code, self.note][: 4 + min(self.shape, 0)] + ["more"] * max(self.shape, 0)

    @property
    def expected(self):
        """The problems as the list names them: a row with too many or too few fields has only this one."""
        if self.shape:
            return ["MISSING COLUMNS" if self.shape < 0 else "TOO MANY COLUMNS"]
        return [kind for kind in ("NULL KEY", "CAST", "LENGTH") if kind in self.problems]

    @property
    def landed(self):
        return (self.number, int(self.qty), self.code, self.note)


@st.composite
def rows_of_a_table(draw, *, shapes=True):
    rows = []
    for number in range(draw(st.integers(1, 25))):
        is_bad = draw(st.integers(0, 3)) == 0
        problems = draw(EVERY) if is_bad else []
        shape = draw(st.sampled_from([0, 0, -1, -2, 1, 3])) if is_bad and shapes else 0
        qty = draw(st.sampled_from(["x", "1.5", "9" * 20])) if "CAST" in problems else str(draw(st.integers(-99, 99)))
        code = draw(LONG) if "LENGTH" in problems else draw(CODES)
        rows.append(Row(number, qty, code, draw(NOTES), problems, shape))
    return rows


def csv_field(text, *, quotes):
    return f'"{text.replace(chr(34), chr(34) * 2)}"' if quotes or set(text) & set(',"\n') else text


@st.composite
def csv_files(draw):
    """Return rows, and the file that holds them: its bytes, and (line, byte position, text) of each row."""
    rows = draw(rows_of_a_table())
    end = draw(st.sampled_from(["\n", "\r\n"]))
    text, places = f"ID,QTY,CODE,NOTE{end}", []
    for row in rows:
        text += end * draw(st.sampled_from([0, 0, 0, 1, 2]))
        quotes = draw(st.booleans())
        line = ",".join(csv_field(field, quotes=quotes and field != "") for field in row.fields())
        places.append((str(text.count("\n") + 1), str(len(text.encode())), line))
        text += line + end
    if draw(st.booleans()):
        text = text.removesuffix(end)
    return rows, text.encode(), places


async def pushed(spec, data, limit, kill_at):
    """Push a file, whose process is killed at a step, and again until it is done. Return the outcome, rows and list."""
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        stage = MemoryStage(folder, min_string_length=8, string_headroom=2.0)
        try:
            stage.files.write(spec, data)
            step = Step("T", "upsert", None, keys=("ID",), types=TYPES, settings={"max_rejects": limit})
            outcome = await stage.push(step, spec, stage.process(kill_at))
            if outcome.receipt is None and outcome.error is None:
                outcome = await stage.push(step, spec)
            rejects = (outcome.receipt or outcome.error.receipt).rejects
            lines = []
            if rejects is not None:
                with open(rejects["file"], encoding="utf-8", newline="") as file:
                    lines = list(csv.reader(file))[1:]
            rows = sorted(tuple(row.values()) for row in await stage.rows("T"))
            assert stage.problems(may_leave_job=kill_at is not None) == []
            return outcome, rows, rejects, lines, len(stage.submits())
        finally:
            stage.close()


def check(found, rows):
    """Check an outcome that must be the same whether or not the process was killed. Return the lines of the list."""
    outcome, landed, rejects, lines, submits = found
    bad = [row for row in rows if row.expected]
    if len(bad) == len(rows):
        assert "no row is left to load" in outcome.error.message
        assert (landed, submits) == ([], 0)
    else:
        assert outcome.error is None, outcome.error
        assert landed == sorted(row.landed for row in rows if not row.expected)
        assert (outcome.receipt.rows, submits) == (len(rows) - len(bad), 1)
    assert (0 if rejects is None else rejects["rows"]) == len(bad)
    return lines


@settings(max_examples=80, **QUIET)
@given(file=csv_files(), kill_at=st.none() | st.integers(1, 60))
def test_each_row_of_a_text_is_loaded_or_listed_whole(file, kill_at):
    rows, data, places = file
    bad = sum(bool(row.expected) for row in rows)
    lines = check(run_in_virtual_time(pushed("a.csv", data, max(bad, 1), kill_at)), rows)
    expected = [
        ("a.csv", *place[:2], kind, place[2]) for row, place in zip(rows, places, strict=True) for kind in row.expected
    ]
    assert [(line[0], line[1], line[2], line[4], line[5]) for line in lines] == expected


@settings(max_examples=40, **QUIET)
@given(rows=rows_of_a_table(shapes=False), kill_at=st.none() | st.integers(1, 60), group=st.integers(1, 8))
def test_each_row_of_a_parquet_file_is_loaded_or_listed_whole(rows, kill_at, group):
    table = pa.table(
        {
            "ID": pa.array([None if "NULL KEY" in row.problems else row.number for row in rows], pa.int64()),
            "QTY": [row.qty for row in rows],
            "CODE": [row.code for row in rows],
            "NOTE": [row.note for row in rows],
        }
    )
    data = io.BytesIO()
    pq.write_table(table, data, row_group_size=group)
    bad = sum(bool(row.expected) for row in rows)
    lines = check(run_in_virtual_time(pushed("a.parquet", data.getvalue(), max(bad, 1), kill_at)), rows)
    raw = table.to_pylist()
    expected = [(kind, raw[number]) for number, row in enumerate(rows) for kind in row.expected]
    assert [(line[4], json.loads(line[5])) for line in lines] == expected


@settings(max_examples=30, **QUIET)
@given(file=csv_files(), short=st.integers(1, 3))
def test_one_row_above_the_limit_refuses_all(file, short):
    rows, data, places = file
    bad = sum(bool(row.expected) for row in rows)
    limit = bad - short
    if limit < 1:
        return
    outcome, landed, rejects, lines, submits = run_in_virtual_time(pushed("a.csv", data, limit, None))
    assert (landed, submits) == ([], 0)
    assert f"{bad} of " in outcome.error.message
    assert rejects["rows"] == bad
    listed = [place[2] for row, place in zip(rows, places, strict=True) for _ in row.expected]
    assert [line[5] for line in lines] == listed
