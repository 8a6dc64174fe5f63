"""The demo: generate a purchase-to-pay event log, push it into the embedded emulator and check the table.

It works offline and needs no account. The log contains what makes real extracts hard to load: ids with leading zeros, amounts with two
decimals, missing values, commas and quotation marks in texts, umlauts. The same number of cases and the same seed always produce the same
log.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import datetime as dt
import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from pushengine.cli.describe import describe_receipt
from pushengine.config.settings import MIB, EngineSettings
from pushengine.credentials import UserApiKey
from pushengine.emulator import Emulator
from pushengine.engine import PushEngine
from pushengine.errors import PushEngineError
from pushengine.events import EventSink
from pushengine.model import QuotaStatus, Receipt
from pushengine.state.file_errors import temporary_folder

TABLE = "P2P_ACTIVITIES"
POOL_ID = "00000000-0000-4000-8000-000000000001"
DEFAULT_CASES = 20_000
_CHUNK_BYTES = 4 * MIB  # small enough for several chunks, so that there is progress to watch
_SECONDS_PER_WORKDAY = 9 * 3600
_OPENING_HOUR = 8
_FIRST_DAY = dt.date(2024, 1, 2)
_STARTING_DAYS = 500
_LONGEST_CASE_DAYS = 400

_REQUISITION = "Create Purchase Requisition"
_ORDER = "Create Purchase Order Item"
_PRICE = "Change Price"
_QUANTITY = "Change Quantity"
_APPROVE = "Approve Purchase Order"
_SEND = "Send Purchase Order"
_GOODS = "Record Goods Receipt"
_INVOICE = "Record Invoice Receipt"
_BLOCK = "Set Payment Block"
_UNBLOCK = "Remove Payment Block"
_CLEAR = "Clear Invoice"
_CANCEL_GOODS = "Cancel Goods Receipt"
_CANCEL_ORDER = "Cancel Purchase Order Item"

_VARIANTS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (38, (_REQUISITION, _ORDER, _APPROVE, _SEND, _GOODS, _INVOICE, _CLEAR)),
    (16, (_ORDER, _APPROVE, _SEND, _GOODS, _INVOICE, _CLEAR)),
    (11, (_REQUISITION, _ORDER, _APPROVE, _PRICE, _APPROVE, _SEND, _GOODS, _INVOICE, _CLEAR)),
    (9, (_REQUISITION, _ORDER, _APPROVE, _SEND, _INVOICE, _BLOCK, _GOODS, _UNBLOCK, _CLEAR)),
    (8, (_ORDER, _SEND, _GOODS, _INVOICE, _CLEAR)),
    (6, (_REQUISITION, _ORDER, _QUANTITY, _APPROVE, _SEND, _GOODS, _GOODS, _INVOICE, _CLEAR)),
    (5, (_REQUISITION, _ORDER, _APPROVE, _SEND, _GOODS, _CANCEL_GOODS, _GOODS, _INVOICE, _CLEAR)),
    (4, (_REQUISITION, _ORDER, _APPROVE, _CANCEL_ORDER)),
    (3, (_INVOICE, _ORDER, _APPROVE, _GOODS, _CLEAR)),
)
_WITH_AMOUNT = frozenset({_ORDER, _PRICE, _QUANTITY, _INVOICE, _CLEAR})
_BY_MACHINE = frozenset({_SEND, _BLOCK, _CLEAR})
_DOCUMENT_RANGES = {_REQUISITION: 10_000_000, _GOODS: 50_000_000, _CANCEL_GOODS: 50_000_000, _INVOICE: 51_000_000}
_USERS = (
    *("Jürgen Groß", "Anna Müller", "Beate Schäfer", "Çelik, Ayşe", "Zoë Lefèvre", "Søren Østergård"),
    *("María Núñez", "Łukasz Wójcik", "Tom O'Brien", "Ines König"),
)
_CURRENCIES = {"EUR": 70, "USD": 18, "CHF": 7, "PLN": 5}
_VENDOR_NAMES = (
    "Großhandel Krüger",
    "Stahl & Söhne",
    "Müller, Weiß",
    'Rossi "Il Fornaio"',
    "Lindqvist",
    "Nordmøre Verktøy",
)
_VENDOR_FORMS = ("GmbH", "AG", "KG", "S.p.A.", "AB", "AS")
_PRICE_TEXTS = ("Preis geändert, siehe Angebot", 'Rabatt "Frühjahr"', "Price index; monthly", None)


def generate(cases: int = DEFAULT_CASES, seed: int = 1) -> pa.Table:
    """Generate the event log of `cases` purchase order items: about seven rows per case, ordered by time within each case."""
    rng = random.Random(seed)  # noqa: S311 - test data, not cryptography
    weights, variants = zip(*_VARIANTS, strict=True)
    paths: Sequence[tuple[str, ...]] = rng.choices(variants, weights, k=cases)
    lengths = [len(path) for path in paths]
    rows = sum(lengths)
    activities = list(itertools.chain.from_iterable(paths))
    case_of_row = pa.array(
        list(itertools.chain.from_iterable(itertools.repeat(case, n) for case, n in enumerate(lengths)))
    )
    per_case = _case_columns(rng, cases)
    has_amount = pa.array([activity in _WITH_AMOUNT for activity in activities])
    none = pa.scalar(None, pa.string())
    users = rng.choices(_USERS, k=rows)
    texts = rng.choices(_PRICE_TEXTS, k=rows)
    return pa.table(
        {
            "CASE_ID": per_case["CASE_ID"].take(case_of_row),
            "ACTIVITY": pa.array(activities),
            "EVENTTIME": _times(rng, lengths),
            "USER_NAME": pa.array(
                [None if name in _BY_MACHINE else user for name, user in zip(activities, users, strict=True)]
            ),
            "DOCUMENT_ID": pa.array(
                [
                    f"{_DOCUMENT_RANGES[name] + number:010d}" if name in _DOCUMENT_RANGES else None
                    for number, name in enumerate(activities)
                ]
            ),
            "VENDOR_ID": per_case["VENDOR_ID"].take(case_of_row),
            "VENDOR_NAME": per_case["VENDOR_NAME"].take(case_of_row),
            "AMOUNT": pc.if_else(has_amount, per_case["AMOUNT"].take(case_of_row), None),
            "CURRENCY": pc.if_else(has_amount, per_case["CURRENCY"].take(case_of_row), none),
            "CHANGE_TEXT": pa.array(
                [text if name == _PRICE else None for name, text in zip(activities, texts, strict=True)], pa.string()
            ),
        }
    )


def _case_columns(rng: random.Random, cases: int) -> dict[str, pa.Array]:
    vendors = [104_000 + int(900 * rng.random() ** 2) for _ in range(cases)]
    cents = pa.array([round(100 * rng.lognormvariate(6.5, 1.4)) + 1 for _ in range(cases)])
    return {
        "CASE_ID": pa.array([f"050{4_500_000_000 + case // 3}{10 * (case % 3 + 1):05d}" for case in range(cases)]),
        "VENDOR_ID": pa.array([f"{vendor:010d}" for vendor in vendors]),
        "VENDOR_NAME": pa.array([_vendor_name(vendor) for vendor in vendors]),
        "AMOUNT": pc.multiply(pc.cast(cents, pa.decimal128(19, 0)), pa.scalar("0.01").cast(pa.decimal128(3, 2))),
        "CURRENCY": pa.array(rng.choices(list(_CURRENCIES), list(_CURRENCIES.values()), k=cases)),
    }


def _vendor_name(vendor: int) -> str:
    return f"{_VENDOR_NAMES[vendor % len(_VENDOR_NAMES)]} {_VENDOR_FORMS[vendor // 7 % len(_VENDOR_FORMS)]}"


def _times(rng: random.Random, lengths: Sequence[int]) -> pa.Array:
    """Generate event times within working hours: a step takes about two working days on average, and some take weeks."""
    workdays = [
        day
        for offset in range((_STARTING_DAYS + _LONGEST_CASE_DAYS) * 2)
        if (day := _FIRST_DAY + dt.timedelta(days=offset)).weekday() < 5  # noqa: PLR2004 - 5 is Saturday
    ]
    seconds: list[int] = []
    for length in lengths:
        now = rng.randrange(_STARTING_DAYS * _SECONDS_PER_WORKDAY)
        for _ in range(length):
            seconds.append(now)
            now += 60 + min(int(rng.expovariate(0.5) * _SECONDS_PER_WORKDAY), 40 * _SECONDS_PER_WORKDAY)
    worked = pa.array(seconds, pa.int64())
    day_number = pc.divide(worked, _SECONDS_PER_WORKDAY)
    into_day = pc.subtract(worked, pc.multiply(day_number, _SECONDS_PER_WORKDAY))
    midnights = pa.array(workdays, pa.date32()).cast(pa.timestamp("s")).take(day_number)
    opening = pc.add(into_day, _OPENING_HOUR * 3600).cast(pa.duration("s"))
    return pc.add(midnights, opening)


@dataclasses.dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo found in the table after the push.

    Attributes:
        activities: Number of rows per activity, most frequent first.
        vendor_id: One vendor id as stored in the table.
        database: The DuckDB file that keeps the table; None if the table was in memory.
    """

    rows: int
    cases: int
    activities: tuple[tuple[str, int], ...]
    vendor_id: str
    receipt: Receipt
    quota: QuotaStatus
    database: Path | None

    def to_dict(self) -> dict[str, Any]:
        """Return the keys of the receipt, and the findings under `demo`."""
        findings = {
            "rows": self.rows,
            "cases": self.cases,
            "activities": dict(self.activities),
            "vendor_id": self.vendor_id,
            "database": str(self.database) if self.database else None,
        }
        return {**self.receipt.to_dict(), "demo": findings}


async def run(
    *,
    cases: int = DEFAULT_CASES,
    seed: int = 1,
    database: Path | None = None,
    settings: EngineSettings | None = None,
    sinks: Sequence[EventSink] = (),
) -> DemoResult:
    """Generate the log, push it and check the table.

    Raises:
        PushEngineError: The push failed, or the table does not hold what was generated.
    """
    with temporary_folder("pushengine-demo-") as folder:
        path = folder / "p2p_activities.csv"
        expected = await asyncio.to_thread(_write_log, path, cases, seed)
        async with (
            Emulator(database) as emulator,
            PushEngine(
                emulator.url,
                pool_id=POOL_ID,
                auth=UserApiKey("demo-key"),
                settings=settings or EngineSettings(chunk_bytes=_CHUNK_BYTES),
                state_dir=folder / "state",
                sinks=sinks,
            ) as engine,
        ):
            receipt = await engine.push(path, table=TABLE)
            quota = await engine.quota()
            found, cases_found, vendor_id = await _query_table(emulator)
    if found != expected:
        raise PushEngineError(
            f"the table holds {found.total():,} rows, {expected.total():,} were generated, or their activities differ",
            hint="this is a bug in pushengine: please report it with the seed and the number of cases",
        )
    return DemoResult(found.total(), cases_found, tuple(found.most_common()), vendor_id, receipt, quota, database)


def _write_log(path: Path, cases: int, seed: int) -> collections.Counter[str]:
    table = generate(cases, seed)
    pacsv.write_csv(table, path)
    return collections.Counter(table["ACTIVITY"].to_pylist())


async def _query_table(emulator: Emulator) -> tuple[collections.Counter[str], int, str]:
    counts = await emulator.query(f'SELECT "ACTIVITY", count(*) FROM "{TABLE}" GROUP BY 1')  # noqa: S608 - the table name is a constant
    [(cases, vendor_id)] = await emulator.query(
        f'SELECT count(DISTINCT "CASE_ID"), min("VENDOR_ID") FROM "{TABLE}"'  # noqa: S608 - the table name is a constant
    )
    return collections.Counter(dict(counts)), cases, vendor_id


def describe_demo(result: DemoResult, *, bar: str = "#") -> list[str]:
    """Describe the findings and the receipt as lines of text. `bar` is the character that draws the bar chart of counts."""
    width = max(len(activity) for activity, _ in result.activities)
    most = result.activities[0][1]
    lines = [f"{TABLE} now holds {result.rows:,} rows of {result.cases:,} cases, as many as were generated:", ""]
    lines += [f"  {name:<{width}}  {count:>9,}  {bar * round(24 * count / most)}" for name, count in result.activities]
    lines += ["", f"  VENDOR_ID {result.vendor_id} kept its leading zeros.", ""]
    lines += describe_receipt(result.receipt, result.quota)
    if result.database:
        lines += ["", f"the table is in {result.database}: open it with DuckDB"]
    return lines
