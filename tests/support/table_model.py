"""A dictionary that says what a table holds after a push. It shares no code with pushengine: it states the promise.

    a push is DONE       the table holds every value, unchanged in meaning, and nothing else
    a push is refused    nothing was submitted, and the table is as before

`TableModel.expect` says which of the two a push must end with. Some values are promised neither to land nor to be refused, such as a
number in scientific notation: then either is right, but a value that lands is still compared with what it means.
"""

import dataclasses
import datetime as dt
import decimal
import re
from typing import NamedTuple

INT64 = range(-(2**63), 2**63)
EXACT = 2**53
LONGEST = 16_250
SURE_DIGITS = 15
MOST_DIGITS = 17
_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+")
_STRANGE_NUMBER = re.compile(r"-?[0-9]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})?")


class ChangedError(Exception):
    """The value cannot be in a column of this type without changing its meaning."""


class Landed(NamedTuple):
    """What a value is in the table.

    Attributes:
        value: The value.
        is_promised: Whether it must land; otherwise it may be refused, too.
        form: How it is written, if all values of a column must be written alike.
    """

    value: object
    is_promised: bool = True
    form: str = ""


NULL = Landed(None)


def landed_text(text, kind, *, is_requested=False):
    """Return what a field of a CSV file is in a column of a type.

    Raises:
        ChangedError: It cannot be there unchanged.
    """
    if text is None:
        return NULL
    if kind == "STRING":
        return Landed(text)
    if kind == "BOOLEAN" and text.lower() in ("true", "false"):
        return Landed(text.lower() == "true", text in ("true", "false", "TRUE", "FALSE", "True", "False"), text[:2])
    if kind == "INTEGER" and re.fullmatch("-?[0-9]+" if is_requested else _INTEGER, text) and int(text) in INT64:
        return Landed(int(text))
    if kind == "FLOAT":
        return _float_of(text, is_requested=is_requested)
    if kind == "DATETIME":
        return _time_of(text)
    raise ChangedError(text)


def _float_of(text, *, is_requested):
    if _INTEGER.fullmatch(text):
        if abs(int(text)) >= EXACT:
            raise ChangedError(text)
        return Landed(float(text))
    digits = len(re.sub(r"[eE].*|[-+.]", "", text).strip("0"))
    if _DECIMAL.fullmatch(text) and digits <= MOST_DIGITS:
        return Landed(float(text), digits <= SURE_DIGITS)
    is_id = re.fullmatch(r"-?0[0-9.]*", text) and not is_requested
    if text and _STRANGE_NUMBER.fullmatch(text) and text != "-" and not is_id:
        value = float(text)
        if abs(value) < EXACT and digits <= MOST_DIGITS:
            return Landed(value, is_promised=False)
    raise ChangedError(text)


def _time_of(text):
    try:
        if _DATE.fullmatch(text):
            return Landed(dt.datetime.fromisoformat(text), form="date")
        match = _TIME.fullmatch(text)
        if match is None:
            raise ChangedError(text)
        micros = re.sub(r"(\.\d{6})0+", r"\1", text)
        if re.search(r"\.\d{7,}", micros):
            raise ChangedError(text)  # the examples have no nanoseconds
        time = dt.datetime.fromisoformat(micros)
    except ValueError:
        raise ChangedError(text) from None
    if time.tzinfo is None:
        return Landed(time, form="naive")
    return Landed(time.astimezone(dt.UTC).replace(tzinfo=None), form="zoned")


def landed_typed(value, kind, *, is_requested=False):  # noqa: PLR0911, PLR0912 - a table of types
    """Return what a typed value is in a column of a type.

    Raises:
        ChangedError: It cannot be there unchanged.
    """
    if value is None:
        return NULL
    match value, kind:
        case bool(), "BOOLEAN":
            return Landed(value)
        case bool(), _:
            pass
        case int(), "INTEGER" if value in INT64:
            return Landed(value)
        case int(), "FLOAT" if abs(value) <= EXACT:
            return Landed(float(value), abs(value) < EXACT)
        case int(), "STRING":
            return Landed(str(value))
        case float(), "FLOAT":
            return Landed(value)
        case decimal.Decimal(), "STRING":
            return Landed(format(value, "f"))
        case decimal.Decimal(), "FLOAT":
            digits = len(value.normalize().as_tuple().digits)
            if digits <= SURE_DIGITS:
                return Landed(float(value))
            if digits <= MOST_DIGITS and decimal.Decimal(f"{float(value):.{digits - 1}e}") == value:
                return Landed(float(value), is_promised=False)
        case dt.datetime(), "DATETIME":
            is_zoned = value.tzinfo is not None
            return Landed(
                value.astimezone(dt.UTC).replace(tzinfo=None) if is_zoned else value,
                form="zoned" if is_zoned else "naive",
            )
        case dt.date(), "DATETIME":
            return Landed(dt.datetime(value.year, value.month, value.day), form="date")
        case str(), "STRING":
            return Landed(value)
    raise ChangedError(repr(value))


@dataclasses.dataclass(frozen=True)
class Extract:
    """What one push reads.

    Attributes:
        kind: csv, parquet or arrow.
        names: Names of the columns; empty for a file of 0 bytes.
        rows: The rows, one value per column: texts in a CSV file, where None is an empty field and "" is `""`.
        types: Arrow types of the columns; empty for CSV.
    """

    kind: str
    names: tuple
    rows: tuple
    types: tuple = ()

    @property
    def is_text(self):
        return self.kind == "csv"

    def landed(self, value, kind, *, is_requested=False):
        return (landed_text if self.is_text else landed_typed)(value, kind, is_requested=is_requested)


@dataclasses.dataclass(frozen=True)
class Step:
    """One push, as its caller writes it."""

    table: str
    mode: str
    extract: Extract
    keys: tuple = ()
    types: dict = dataclasses.field(default_factory=dict)
    rename: dict = dataclasses.field(default_factory=dict)
    select: tuple = ()
    exclude: tuple = ()
    allow_empty: bool = False
    settings: dict = dataclasses.field(default_factory=dict)

    @property
    def is_delta(self):
        return self.mode != "replace"

    def policy(self, name):
        frozen = {"new_columns": "refuse", "missing_columns": "refuse", "types": "refuse"}
        evolving = {"new_columns": "add", "missing_columns": "null", "types": "widen"}
        drift = frozen if self.settings.get("drift") == "freeze" else evolving
        return self.settings.get(name) or drift[name]


@dataclasses.dataclass
class Column:
    """A column of a table. `forms` are the ways in which its date-times were written, as far as it matters."""

    name: str
    type: str
    length: int | None = None
    forms: frozenset = frozenset()


@dataclasses.dataclass
class Table:
    """A table: its columns by case-folded name, and its rows, each a dictionary by the same names."""

    columns: dict = dataclasses.field(default_factory=dict)
    rows: list = dataclasses.field(default_factory=list)
    replaced_rows: int | None = None

    def structure(self):
        return {name: (column.name, column.type, column.length) for name, column in self.columns.items()}


@dataclasses.dataclass(frozen=True)
class Sent:
    """A column of the source that is sent: its name and index there, its name in the table, and the table's column."""

    source: str
    index: int
    name: str
    known: Column | None

    @property
    def folded(self):
        return self.name.casefold()


@dataclasses.dataclass(frozen=True)
class Problem:
    """A reason to refuse a push: the columns that its error may name, and for a value its row (from 1)."""

    columns: frozenset
    row: int | None = None
    is_sure: bool = True


@dataclasses.dataclass
class Expectation:
    """What a push must do: load (no problem), be refused (a sure one), or either."""

    sent: list
    new: list
    missing: list
    problems: list

    @property
    def verdict(self):
        if any(problem.is_sure for problem in self.problems):
            return "refuse"
        return "either" if self.problems else "load"


class TableModel:
    """All tables, as they must be."""

    def __init__(self):
        self.tables = {}

    def table(self, name):
        return self.tables.get(name.casefold())

    # --- Before the push

    def expect(self, step):
        table = self.table(step.table)
        found = self._columns(step, table)
        if not step.extract.rows:
            self._expect_empty(step, table, found)
            return found
        self._expect_policy(step, table, found)
        for one in found.sent:
            found.problems += self._value_problems(step, one)
        if step.mode == "upsert" and not any(problem.is_sure for problem in found.problems):
            found.problems += duplicate_problems(step, found.sent)
        if step.mode == "replace":
            count, before = len(step.extract.rows), table.replaced_rows if table else None
            drop = step.settings.get("max_drop")
            if count < step.settings.get("min_rows", 0) or (
                drop is not None and before and count < before * (1 - drop)
            ):
                found.problems.append(Problem(frozenset(["min_rows", "max_drop"])))
        return found

    def _columns(self, step, table, *, is_alone=True):  # noqa: PLR0912 - every way to choose and match columns
        """Match the columns of the source with those of the table, which is as the push has seen it only if no other push ran."""
        names, problems = step.extract.names, []
        known = table.columns if table else {}
        renamed = {}
        for old, new in step.rename.items():
            if old in names:
                renamed[old] = new
            elif new in names and old.casefold() in known:
                renamed[new] = old
            else:
                problems.append(Problem(frozenset([old])))
        pairs = [(name, index, renamed.get(name, name)) for index, name in enumerate(names)]
        if step.select:
            pairs = [pair for pair in pairs if {pair[0], pair[2]} & set(step.select)]
        pairs = [pair for pair in pairs if not {pair[0], pair[2]} & set(step.exclude)]
        problems += [
            Problem(frozenset([name]), is_sure=name.casefold() not in known)
            for name in (*step.select, *step.exclude)
            if name not in names and name not in renamed.values()
        ]
        folded = [pair[2].casefold() for pair in pairs]
        twice = {pair[2] for pair in pairs if folded.count(pair[2].casefold()) > 1}
        if twice:
            problems.append(Problem(frozenset(twice)))
        sendable = {name for source, _, name in pairs} | {source for source, _, _ in pairs}
        problems += [Problem(frozenset([key])) for key in step.keys if names and key not in sendable]
        if step.mode == "delete":
            pairs = [pair for pair in pairs if {pair[0], pair[2]} & set(step.keys)]
        sent, new = [], []
        for source, index, name in pairs:
            column = known.get(name.casefold())
            is_key = bool({source, name} & set(step.keys))
            if column is None and table:
                if step.mode == "delete":
                    problems.append(Problem(frozenset([source, name])))
                elif step.policy("new_columns") == "ignore" and not is_key and is_alone:
                    new.append(name)
                    continue
                else:
                    new.append(name)
            spelled = column.name if column and step.is_delta else name
            sent.append(Sent(source, index, spelled, column))
        dropped = set() if step.is_delta else {name.casefold() for name in (*step.exclude, *names)}
        kept = {one.folded for one in sent} | dropped
        missing = [column for name, column in known.items() if name not in kept] if step.mode != "delete" else []
        if names and not sent:
            problems.append(Problem(frozenset(["no column"])))
        return Expectation(sent, new, missing, problems)

    def _expect_empty(self, step, table, found):
        if step.is_delta:
            # There is nothing to load, so nothing to refuse; a typed column that can never fit may be refused all the same.
            if not step.extract.names and not step.allow_empty:
                found.problems.append(Problem(frozenset([""])))
            elif step.extract.names and (not step.extract.is_text or step.types or step.keys):
                found.problems.append(Problem(frozenset([""]), is_sure=False))
        elif not step.allow_empty:
            found.problems.append(Problem(frozenset(["no rows", "empty"] if step.extract.is_text else [""])))
        elif not step.extract.names and table is None:
            found.problems.append(Problem(frozenset(["no columns"])))
        else:
            is_sure = bool(step.settings.get("min_rows")) or (step.settings.get("max_drop", 1.0) or 1.0) < 1.0
            if is_sure or not step.extract.is_text or step.types or step.policy("types") == "refuse":
                found.problems.append(Problem(frozenset([""]), is_sure=False))

    def _expect_policy(self, step, table, found):
        if table is None:
            return
        if found.new and step.mode != "delete":
            policy = step.policy("new_columns")
            is_key = any(one.known is None and {one.source, one.name} & set(step.keys) for one in found.sent)
            if policy == "refuse" or (
                policy == "add" and step.is_delta and not step.settings.get("verified_new_columns")
            ):
                found.problems.append(Problem(frozenset(found.new)))
            elif policy == "ignore" and is_key:
                found.problems.append(Problem(frozenset(found.new), is_sure=False))
        if found.missing and step.policy("missing_columns") == "refuse":
            names = frozenset(column.name for column in found.missing)
            found.problems.append(Problem(names, is_sure=not step.select and not step.exclude))

    def _value_problems(self, step, one):
        """Yield the reasons why the values of a column must, or may, be refused."""
        names = frozenset([one.source, one.name])
        requested = requested_type(step, one)
        is_key = bool({one.source, one.name} & set(step.keys))
        values = [row[one.index] for row in step.extract.rows]
        if is_key:
            yield from (Problem(names, row) for row, value in enumerate(values, 1) if value is None)
        known = one.known
        if known and requested and step.is_delta and requested[0] != known.type:
            yield Problem(names)
            return
        is_kept = known is not None and (step.is_delta or step.policy("types") == "refuse")
        if is_kept and step.mode == "replace" and requested:
            is_kept = False
        if is_key and requested is None:
            yield from self._key_problems(step, one, names)
            if known and known.type == "FLOAT":
                return
        if is_kept or requested:
            kind, length = (known.type, known.length) if is_kept else requested
            yield from fit_problems(step, one, values, kind, length, is_requested=requested is not None)
        elif any(isinstance(value, str) and len(value) > LONGEST for value in values):
            yield Problem(names, is_sure=False)

    def _key_problems(self, step, one, names):
        """Yield a problem if no key may have this type: 1.1 and 1.10 would be one key."""
        source = "" if step.extract.is_text else str(step.extract.types[one.index])
        known = one.known.type if one.known else ""
        if known == "FLOAT" or source == "double":
            yield Problem(names)
        elif known == "DATETIME" or source.startswith("decimal"):
            yield Problem(names, is_sure=False)

    # --- After the push

    def apply(self, step, structure, *, expected=None, is_alone=True):
        """Apply a push that is DONE.

        Args:
            step: The push.
            structure: The columns that the table has now: case-folded name -> (name, type, length).
            expected: What was expected of the push; None if another push ran at the same time.
            is_alone: Whether no other push into the table ran at the same time.

        Returns:
            One sentence for everything that must not be so.
        """
        table = self.table(step.table)
        expected = self._columns(step, table, is_alone=is_alone) if expected is None else expected
        if not step.extract.rows and step.is_delta:
            return []
        if table is None and step.mode == "delete":
            return []
        before = table or Table()
        wrong = []
        if step.is_delta and table is not None:
            wrong += self._fixed(step, before, structure, expected)
        elif is_alone and table is not None:
            wrong += self._sticky(step, before, structure, expected)
        after = Table({name: Column(*column) for name, column in structure.items()}, replaced_rows=before.replaced_rows)
        sent = {one.folded: one for one in expected.sent if one.folded in after.columns}
        if (
            step.mode == "replace"
            and is_alone
            and set(structure) != set(sent) | {column.name.casefold() for column in expected.missing}
        ):
            wrong.append(f"the replaced table has columns {sorted(structure)}, sent were {sorted(sent)}")
        rows, changed = self._landed_rows(step, sent, after)
        wrong += changed
        self._remember_forms(step, sent, before, after)
        keys = [one.folded for one in expected.sent if {one.source, one.name} & set(step.keys)]
        if step.mode == "upsert" and step.keys:
            index = next(one.index for one in expected.sent if one.folded == keys[0])
            given = {row[index] for row in step.extract.rows}
            if len({row[keys[0]] for row in rows}) != len(given):
                wrong.append(f"different keys became equal: {given}")
        after.rows = changed_rows(
            step.mode, [{name: row.get(name) for name in after.columns} for row in before.rows], rows, keys
        )
        if step.mode == "replace":
            after.replaced_rows = len(rows)
        self.tables[step.table.casefold()] = after
        return wrong

    @staticmethod
    def _landed_rows(step, sent, after):
        """Return the rows as they must be in the table, and a sentence for each value that cannot be there unchanged."""
        rows, wrong = [], []
        for number, row in enumerate(step.extract.rows, 1):
            cells = {}
            for name, one in sent.items():
                kind, is_requested = after.columns[name].type, requested_type(step, one) is not None
                try:
                    cells[name] = step.extract.landed(row[one.index], kind, is_requested=is_requested).value
                except ChangedError:
                    wrong.append(f"row {number}: {row[one.index]!r} cannot be in {after.columns[name]} unchanged")
            rows.append({name: cells.get(name) for name in after.columns})
        return rows, wrong

    @staticmethod
    def _remember_forms(step, sent, before, after):
        """Note in which forms the date-times of the table were written."""
        for name, one in sent.items():
            forms = {_form(step, row[one.index]) for row in step.extract.rows} - {""}
            earlier = before.columns[name].forms if step.is_delta and name in before.columns else frozenset()
            after.columns[name].forms = earlier | forms
        for name, column in before.columns.items():
            if name in after.columns and name not in sent:
                after.columns[name].forms = column.forms

    @staticmethod
    def _fixed(step, before, structure, expected):
        """Return what append, upsert and delete changed of a table that exists, except for new columns that were allowed."""
        added = {name.casefold() for name in expected.new} if step.policy("new_columns") == "add" else set()
        if step.mode == "delete":
            added = set()
        old = before.structure()
        wrong = [
            f"{step.mode} changed {column} to {structure.get(name)}"
            for name, column in old.items()
            if structure.get(name) != column
        ]
        return wrong + [f"{step.mode} added {name}" for name in structure if name not in old and name not in added]

    @staticmethod
    def _sticky(step, before, structure, expected):
        """Return the columns whose type or length a replace changed although every value fits, or could not have changed to."""
        wrong = []
        sent = {one.folded: one for one in expected.sent}
        for name, old in before.columns.items():
            if name not in structure or (name in sent and requested_type(step, sent[name])):
                continue
            _, kind, length = structure[name]
            values = [row[sent[name].index] for row in step.extract.rows] if name in sent else []
            is_untyped = name not in sent or step.extract.is_text
            is_empty = is_untyped and all(value is None for value in values)
            fits = is_empty or (bool(values) and not list(fit_problems(step, sent[name], values, old.type, LONGEST)))
            if fits and kind != old.type:
                wrong.append(f"replace changed {old} to {kind} although every value fits")
            if kind == old.type == "STRING":
                longest = max(
                    (len(step.extract.landed(value, "STRING").value) for value in values if value is not None),
                    default=0,
                )
                if length < old.length or (longest <= old.length and length != old.length):
                    wrong.append(f"replace changed the length of {old} to {length}; the longest value has {longest}")
            if (
                kind != old.type
                and step.extract.is_text
                and (old.type, kind) != ("INTEGER", "FLOAT")
                and kind != "STRING"
            ):
                wrong.append(f"replace changed {old} to {kind}, which does not hold all values of the old type")
        return wrong


def _form(step, value):
    try:
        return step.extract.landed(value, "DATETIME").form
    except ChangedError:
        return ""


def requested_type(step, one):
    """Return (type, length) that the caller requested for a column; None if none."""
    text = step.types.get(one.name, step.types.get(one.source))
    if text is None:
        return None
    match = re.fullmatch(r"(\w+)(?:\((\d+)\))?", text)
    return match[1], int(match[2]) if match[2] else None


def fit_problems(step, one, values, kind, length, *, is_requested=False):
    """Yield a problem for each value that a column of this type cannot hold, or that it may refuse."""
    names = frozenset([one.source, one.name])
    forms = set()
    for row, value in enumerate(values, 1):
        try:
            found = step.extract.landed(value, kind, is_requested=is_requested)
        except ChangedError:
            # Typed columns are refused as a whole, by their type.
            yield Problem(names, row if step.extract.is_text or kind in ("FLOAT", "STRING") else None)
            continue
        if kind == "STRING" and value is not None and len(found.value) > (length or LONGEST):
            yield Problem(names, row)
        elif not found.is_promised:
            yield Problem(names, row, is_sure=False)
        if found.form:
            forms.add(found.form)
    known = one.known.forms if one.known is not None else frozenset()
    is_mixed = ("zoned" in known | forms) and len(known | forms) > 1
    if len(forms) > 1 or (kind == "DATETIME" and is_mixed):
        yield Problem(names, is_sure=False)
    if (
        not step.extract.is_text
        and all(value is None for value in values)
        and str(step.extract.types[one.index]) != "null"
    ):
        yield Problem(names, is_sure=False)


def duplicate_problems(step, sent):
    """Yield a problem for each row of an upsert that differs from an earlier row with an equal key."""
    keys = [one for one in sent if {one.source, one.name} & set(step.keys)]
    names = frozenset(name for one in keys for name in (one.source, one.name))
    first = {}
    for number, row in enumerate(step.extract.rows, 1):
        values = tuple(row[one.index] for one in sent)
        if (
            first.setdefault(tuple(row[one.index] for one in keys), values) != values
            and step.settings.get("duplicate_keys") != "last"
        ):
            yield Problem(names, number)


def changed_rows(mode, before, rows, keys):
    """Return the rows of a table after a push in this mode."""
    if mode == "replace":
        return rows
    if mode == "append":
        return before + rows

    def key(row):
        return tuple(row[name] for name in keys)

    given = {key(row): row for row in rows}  # of rows with equal keys, the last one
    kept = [row for row in before if key(row) not in given]
    return kept + (list(given.values()) if mode == "upsert" else [])
