"""Strategies for the model of tables: sequences of pushes whose extracts drift, so that both loading and refusing are common."""

import datetime as dt
import decimal
from typing import NamedTuple

import pyarrow as pa
from hypothesis import strategies as st
from support.table_model import Extract, Step

ints = st.one_of(st.integers(-20, 2000), st.sampled_from([0, 2**31, 2**53 - 1]))
big_ints = st.sampled_from([2**53 + 1, 9_007_199_254_740_993, 2**63 - 1, -(2**63), -(2**53) - 1])
huge_ints = st.sampled_from([2**63, 10**25])
decimals = st.decimals(-10_000, 10_000, places=2).filter(lambda value: str(value) != "-0.00")
long_decimals = st.sampled_from(["99999999999999.99", "0.12345678901234567890", "123456789012345678.5"])
days = st.dates(dt.date(1990, 1, 1), dt.date(2030, 12, 31))
times = st.datetimes(dt.datetime(1990, 1, 1), dt.datetime(2030, 1, 1)).map(
    lambda time: time.replace(microsecond=time.microsecond // 1000 * 1000)
)
short_words = st.text("abXY ä1", min_size=1, max_size=6).filter(
    lambda text: text.strip() == text and not text[0].isdigit()
)
long_words = st.sampled_from([30, 200, 500, 1100]).map(lambda length: "x" * length)

TEXTS = {
    "ints": ints.map(str),
    "big ints": big_ints.map(str),
    "huge ints": huge_ints.map(str),
    "leading zeros": st.integers(0, 99).map("{:05d}".format),
    "decimals": decimals.map(str),
    "long decimals": long_decimals,
    "odd numbers": st.sampled_from(["1E5", "1.5e3", ".5", "-0", "+1", "nan", "1E-02", "5."]),
    "booleans": st.sampled_from(["true", "false"]),
    "other booleans": st.sampled_from(["TRUE", "FALSE"]),
    "dates": days.map(str),
    "times": times.map(lambda time: time.isoformat(sep=" ", timespec="milliseconds")),
    "zoned times": times.map(lambda time: f"{time.isoformat(timespec='milliseconds')}+02:00"),
    "hours": st.sampled_from(["093000", "143000", "000000"]),
    "words": short_words,
    "long words": long_words,
    "empty": st.none(),
    "empty texts": st.just(""),
}
"""Kinds of columns in CSV files."""
NEAR = {
    "ints": ["ints", "big ints", "leading zeros", "decimals", "words", "huge ints", "empty"],
    "decimals": ["decimals", "ints", "big ints", "long decimals", "odd numbers", "words"],
    "leading zeros": ["leading zeros", "ints", "hours", "words", "decimals"],
    "booleans": ["booleans", "other booleans", "ints", "words", "empty"],
    "dates": ["dates", "times", "words", "zoned times", "empty"],
    "times": ["times", "zoned times", "dates", "hours"],
    "zoned times": ["zoned times", "times", "dates"],
    "words": ["words", "long words", "ints", "empty texts", "dates", "decimals"],
    "empty": ["empty", "ints", "words", "dates"],
}
"""Home kind of a column -> what it may hold in another extract."""
KEYS = {
    "ints": TEXTS["ints"],
    "leading zeros": TEXTS["leading zeros"],
    "dates": TEXTS["dates"],
    "words": short_words,
    "decimals": st.one_of(TEXTS["decimals"], st.sampled_from(["1.1", "1.10", "2", "2.0"])),
}


class Typed(NamedTuple):
    type: pa.DataType
    values: st.SearchStrategy


MONEY = pa.decimal128(20, 2)
TYPED = {
    "ints": Typed(pa.int64(), ints),
    "big ints": Typed(pa.int64(), big_ints),
    "huge ints": Typed(pa.uint64(), st.sampled_from([2**63, 2**64 - 1])),
    "leading zeros": Typed(pa.string(), TEXTS["leading zeros"]),
    "decimals": Typed(MONEY, decimals),
    "long decimals": Typed(MONEY, st.just(decimal.Decimal("90071992547409931.25"))),
    "odd numbers": Typed(pa.float64(), st.floats(-1e6, 1e6, allow_subnormal=False)),
    "booleans": Typed(pa.bool_(), st.booleans()),
    "other booleans": Typed(pa.bool_(), st.booleans()),
    "dates": Typed(pa.date32(), days),
    "times": Typed(pa.timestamp("us"), times),
    "zoned times": Typed(pa.timestamp("us", "UTC"), times.map(lambda time: time.replace(tzinfo=dt.UTC))),
    "hours": Typed(pa.string(), TEXTS["hours"]),
    "words": Typed(pa.string(), short_words),
    "long words": Typed(pa.string(), long_words),
    "empty": Typed(pa.null(), st.none()),
    "empty texts": Typed(pa.string(), st.just("")),
}


@st.composite
def extracts(draw, columns, key, kinds):  # noqa: PLR0912 - every way to drift
    """Draw an extract of a table whose home columns are these (name -> kind of values), with drift."""
    kind = draw(st.sampled_from(kinds))
    if kind == "csv" and draw(st.integers(0, 40)) == 0:
        return Extract(kind, (), ())
    chosen = dict(columns)
    drift = draw(st.sampled_from(["none"] * 6 + ["lacks", "new", "renamed", "case", "reordered", "twice", "swapped"]))
    other = [name for name in chosen if name != key]
    if drift in ("lacks", "swapped") and other:
        del chosen[draw(st.sampled_from(other))]
    if drift in ("new", "swapped"):
        chosen["EXTRA"] = draw(st.sampled_from(sorted(NEAR)))
    if drift == "renamed" and other:
        old = draw(st.sampled_from(other))
        chosen = {f"{name}_2" if name == old else name: home for name, home in chosen.items()}
    if drift == "case":
        chosen = {name.lower(): home for name, home in chosen.items()}
    if drift == "twice" and other:
        chosen[other[0].lower()] = "words"
    if drift == "reordered":
        chosen = dict(reversed(chosen.items()))
    count = draw(st.sampled_from([0, 1, 2, 3, 3, 4, 5, 6]))
    cells, types = [], []
    for name, home in chosen.items():
        is_key = name.casefold() == key.casefold()
        now = home if is_key or draw(st.integers(0, 2)) else draw(st.sampled_from(NEAR[home]))
        if is_key:
            values = KEYS[home] if kind == "csv" else TYPED[home].values
            is_unique = draw(st.integers(0, 3)) > 0
            keys = draw(st.lists(values, min_size=count, max_size=count, unique=is_unique))
            if not is_unique and count > 1:
                keys[-1] = keys[0]
            elif not is_unique and count:
                keys[0] = None
            cells.append(keys)
        else:
            values = TEXTS[now] if kind == "csv" else TYPED[now].values
            if now != home and draw(st.booleans()) and kind == "csv":
                values = st.one_of(TEXTS[home], values)  # only some rows drift
            if draw(st.booleans()):
                values = st.one_of(st.none(), values)
            cells.append(draw(st.lists(values, min_size=count, max_size=count)))
        types.append(TYPED[now].type)
    rows = tuple(zip(*cells, strict=True)) if count else ()
    return Extract(kind, tuple(chosen), rows, () if kind == "csv" else tuple(types))


FILES = ("csv", "csv", "parquet")
SOURCES = ("csv", "csv", "csv", "parquet", "arrow")
SETTINGS = {
    "drift": ["evolve", "freeze"],
    "new_columns": ["add", "refuse", "ignore"],
    "missing_columns": ["null", "refuse"],
    "types": ["widen", "refuse"],
    "verified_new_columns": [True, True, False],
    "min_string_length": [20, 255],
    "duplicate_keys": ["last", "refuse"],
    "max_drop": [0.5],
    "min_rows": [2],
}


@st.composite
def steps(draw, tables, kinds=SOURCES):
    """Draw one push into one of these tables: name -> (key column, columns)."""
    name = draw(st.sampled_from(sorted(tables)))
    key, columns = tables[name]
    extract = draw(extracts(columns, key, kinds))
    mode = draw(st.sampled_from(["append", "append", "upsert", "upsert", "replace", "replace", "delete"]))
    spelled_key = next((one for one in extract.names if one.casefold() == key.casefold()), key)
    keys = (spelled_key,) if mode in ("upsert", "delete") else ()
    settings = {}
    for one in draw(st.lists(st.sampled_from(sorted(SETTINGS)), max_size=3, unique=True)):
        settings[one] = draw(st.sampled_from(SETTINGS[one]))
    options = {}
    others = [one for one in extract.names if one != spelled_key]
    renamed = [one for one in extract.names if one.endswith("_2")]
    choice = draw(st.sampled_from(["none"] * 6 + ["select", "exclude", "types", "rename", "rename"]))
    if choice == "select" and others:
        options["select"] = (spelled_key, *draw(st.lists(st.sampled_from(others), max_size=3, unique=True)))
    elif choice == "exclude" and others:
        options["exclude"] = (draw(st.sampled_from(others)),)
    elif choice == "types" and others and extract.is_text:
        options["types"] = {
            draw(st.sampled_from(others)): draw(
                st.sampled_from(["STRING", "STRING(40)", "INTEGER", "FLOAT", "DATETIME"])
            )
        }
    elif choice == "rename" and renamed:
        old = renamed[0].removesuffix("_2")
        options["rename"] = draw(st.sampled_from([{renamed[0]: old}, {old: renamed[0]}]))
    elif choice == "rename" and others:
        options["rename"] = {draw(st.sampled_from(others)): "NAMED"}
    spelled = draw(st.sampled_from([name, name, name, name.lower()]))
    allow_empty = draw(st.booleans()) if not extract.rows else False
    return Step(spelled, mode, extract, keys, settings=settings, allow_empty=allow_empty, **options)


class Action(NamedTuple):
    """What happens next: one push, two at once, or one that is killed, perhaps with another before its second run.

    Attributes:
        kind: alone, killed, overtaken, together, two engines, or one of two dies.
        first: The push.
        second: The other push.
        kill_at: The step at which the first one's process dies.
    """

    kind: str
    first: Step
    second: Step | None = None
    kill_at: int = 0


@st.composite
def worlds(draw, kinds, size=6):
    """Draw the home columns of one or two tables, and what happens to them."""
    tables = {}
    for name in draw(st.sampled_from([("T",), ("T", "U")])):
        home = {"K": draw(st.sampled_from(sorted(KEYS)))}
        for column in ("A", "B", "C")[: draw(st.integers(1, 3))]:
            home[column] = draw(st.sampled_from(sorted(NEAR)))
        tables[name] = "K", home
    actions = []
    for _ in range(draw(st.integers(2, size))):
        kind = draw(st.sampled_from(kinds))
        is_killed = kind in ("killed", "overtaken", "one of two dies")
        first = draw(steps(tables, FILES if is_killed else SOURCES))  # an object in memory is gone with its process
        second = None if kind in ("alone", "killed") else draw(steps(tables))
        actions.append(Action(kind, first, second, draw(st.integers(1, 90)) if is_killed else 0))
    return actions
