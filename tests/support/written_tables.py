"""Tables written as text in every way that the settings of text files can say, by a writer that shares no code with the reader."""

import bz2
import dataclasses
import datetime as dt
import gzip
import lzma
import random
from collections.abc import Callable, Mapping

import pyarrow as pa
from hypothesis import strategies as st

NULL = None
BLANKS = " \t\u00a0\u200b\ufeff"
_DIGITS = 3
"""Digits of a group of thousands."""


class CannotWriteError(ValueError):
    """A value that a dialect cannot spell, such as a text with a line end if there are neither quotes nor escapes."""


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How a table is written.

    Attributes:
        settings: The settings that say so, by name (`CsvSettings`), with what the presets stand for.
        presets: Preset (`dialect` or `locale`) -> the settings that it stands for.
        line_end: Line end.
        file_encoding: Encoding of the file, by Python's name; one that writes a byte order mark is not said in the settings.
        compression: Suffix of the compression; empty if there is none.
        has_final_line_end: Whether the last line ends with a line end.
        garbage: What stands in lines that are no rows.
    """

    settings: Mapping
    presets: Mapping = dataclasses.field(default_factory=dict)
    line_end: str = "\n"
    file_encoding: str = "utf-8"
    compression: str = ""
    has_final_line_end: bool = True
    garbage: str = "printed by X"

    @property
    def given(self):
        """The settings as they are given: presets instead of what they stand for."""
        implied = {name for preset in self.presets.values() for name in PRESETS[preset]}
        given = {name: value for name, value in self.settings.items() if name not in implied}
        # Blanks and byte order marks before values are doubtful unless the user says that they belong to them.
        return ({} if self.trims else {"trim": False}) | given | self.presets

    @property
    def is_list(self):
        """Whether the file is a list of SAP."""
        return self.presets.get("dialect") == "sap-list"

    @property
    def is_by_position(self):
        """Whether the columns of several files must have the same order: their names do not tell them apart."""
        return not self.settings.get("header") or "nameless" in self.settings or "duplicate_names" in self.settings

    def header_cells(self, names):
        """Return the cells of the header line for columns with these names."""
        if "duplicate_names" in self.settings:
            return ["X" for _ in names]
        if "nameless" in self.settings:
            return ["" if number % 2 else name for number, name in enumerate(names)]
        return names

    def column_names(self, names):
        """Return the names that the columns have in the table."""
        if not self.settings.get("header") and "names" not in self.settings:
            return [f"column_{number}" for number in range(1, len(names) + 1)]
        if "duplicate_names" in self.settings:
            return ["X", *(f"X_{number}" for number in range(2, len(names) + 1))]
        if "nameless" in self.settings:
            return [f"column_{number}" if number % 2 == 0 else name for number, name in enumerate(names, 1)]
        return list(names)

    @property
    def delimiter(self):
        return self.settings.get("delimiter", ",")

    @property
    def quote(self):
        return self.settings.get("quote", '"')

    @property
    def escape(self):
        return self.settings.get("escape", "")

    @property
    def trims(self):
        return self.settings.get("trim", False)

    def is_plain(self, text, *, is_first):
        """Whether a text may stand in a field as it is, neither quoted nor escaped."""
        marks = (self.delimiter, self.escape, "\n", "\r")
        comment = self.settings.get("comment")
        return (
            text != ""
            and not any(mark and mark in text for mark in marks)
            and not (text + self.delimiter).find(self.delimiter) < len(text)  # as in "a|" before "||"
            and not (self.quote and text.lstrip(BLANKS).startswith(self.quote))
            and text not in self.settings.get("null", ())
            and not (self.trims and text.strip(BLANKS) != text)
            and not (is_first and comment and text.startswith(comment))
        )

    def field(self, text, rng, *, is_first=False):
        """Return the field for a text, or for NULL.

        Raises:
            CannotWriteError: The dialect cannot spell it.
        """
        if text is NULL:
            field = rng.choice(["", *self.settings.get("null", ())])
            if is_first and self.settings.get("comment") and field.startswith(self.settings["comment"]):
                field = ""
        elif self.is_plain(text, is_first=is_first) and not (self.quote and rng.random() < 0.4):
            field = text
        elif self.quote:
            field = self._quoted(text)
        else:
            field = self._escaped(text, is_first=is_first)
        return self._padded(field, rng, is_first=is_first)

    def _quoted(self, text):
        if self.escape:
            text = text.replace(self.escape, 2 * self.escape)
        inner = self.escape or self.quote
        return self.quote + text.replace(self.quote, inner + self.quote) + self.quote

    def _escaped(self, text, *, is_first):
        comment = self.settings.get("comment")
        if not self.escape or text == "" or text.strip(BLANKS) != text or text in self.settings.get("null", ()):
            raise CannotWriteError(text)
        if len(self.delimiter) > 1 or (is_first and comment and text.startswith(comment)):
            raise CannotWriteError(text)
        for mark in (self.escape, self.delimiter, "\n", "\r"):
            text = text.replace(mark, self.escape + mark)
        return text

    def _padded(self, field, rng, *, is_first):
        """With `trim`, blanks may stand around a field."""
        if not self.trims or is_first or rng.random() < 0.5:
            return field
        blanks = [blank for blank in BLANKS if blank not in self.delimiter and _fits(blank, self.file_encoding)]
        return rng.choice(blanks) + field + rng.choice(blanks)

    def line(self, texts, rng):
        """Return a row without its line end.

        Raises:
            CannotWriteError: The dialect cannot spell a value.
        """
        fields = [self.field(text, rng, is_first=number == 0) for number, text in enumerate(texts)]
        if self.is_list:
            if fields[0].lstrip(BLANKS).startswith("*") or not "".join(fields).strip(BLANKS + "-+|"):
                raise CannotWriteError("it looks like a total or a ruler")
            return f"|{'|'.join(fields)}|"
        last = self.delimiter if "trailing_delimiter" in self.settings else ""
        return self.delimiter.join(fields) + last

    def file(self, names, rows, rng):
        """Return the bytes of a file.

        Raises:
            CannotWriteError: The dialect cannot spell a value.
        """
        if self.is_list and self.line_end == "\r":
            raise CannotWriteError("lists of SAP have no such line ends")
        ruler = ["-" * 20] if self.is_list else []
        lines = [f"{self.garbage} {number}" for number in range(self.settings.get("skip_lines", 0))]
        if self.presets.get("dialect") == "excel":
            lines.append(f"sep={self.delimiter}")
        if self.is_list:
            lines += [self.garbage, *ruler]
        if self.settings.get("header"):
            lines += [self.line(self.header_cells(names), rng), *ruler]
        texts = []
        for row in rows:
            if "comment" in self.settings and rng.random() < 0.3:
                lines.append(f"{self.settings['comment']}{self.garbage}")
            if self.is_list and rng.random() < 0.1:
                lines += ruler
            texts.append(self.line(row, rng))
            lines.append(texts[-1])
        lines += ruler
        lines += [f"{self.garbage} {number}" for number in range(self.settings.get("skip_footer", 0))]
        if not self.settings.get("header") and all(text == "" for text in texts):
            raise CannotWriteError("it looks like an empty file")
        if lines[-1] == "" and not self.has_final_line_end:
            raise CannotWriteError("an empty line at the end")
        text = self.line_end.join(lines) + self.line_end * self.has_final_line_end
        try:
            return COMPRESS[self.compression](text.encode(self.file_encoding))
        except UnicodeEncodeError:
            raise CannotWriteError(text) from None

    @property
    def name(self):
        return f"csv{self.compression}"


def _fits(text, encoding):
    try:
        return text.encode(encoding).decode(encoding) == text
    except UnicodeError:
        return False


def _zstd(data):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        file.write(data)
    return sink.getvalue().to_pybytes()


COMPRESS: Mapping[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": _zstd,
}


# --- Values


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of column.

    Attributes:
        type: Type that must be inferred.
        anchor: A value that shows the type, and no other.
        values: Strategy of the other values.
        spell: (value, settings, random numbers) -> its text.
    """

    type: str
    anchor: object
    values: st.SearchStrategy
    spell: Callable


def _number(value, settings, rng):
    """Spell a number in the signs that the settings say, sometimes with groups and a minus at the end."""
    text = value if isinstance(value, str) else str(value)
    whole, point, fraction = text.removeprefix("-").partition(".")
    if "thousands" in settings and len(whole) > _DIGITS and rng.random() < 0.7:
        first = len(whole) % _DIGITS
        groups = [whole[:first]] * bool(first) + [whole[at : at + _DIGITS] for at in range(first, len(whole), _DIGITS)]
        whole = settings["thousands"].join(groups)
    number = whole + (settings.get("decimal", ".") + fraction if point else "")
    if not text.startswith("-"):
        return number
    is_localized = "decimal" in settings or "thousands" in settings
    return f"{number}-" if is_localized and rng.random() < 0.5 else f"-{number}"


FORMATS = {
    "dd.mm.yyyy": "%d.%m.%Y",
    "yyyymmdd": "%Y%m%d",
    "%Y%m%d": "%Y%m%d",
    "mm/dd/yyyy": "%m/%d/%Y",
    "yyyy/mm/dd": "%Y/%m/%d",
    "%d-%m-%Y": "%d-%m-%Y",
}
ZEROS = {"dd.mm.yyyy": "00.00.0000", "yyyymmdd": "00000000", "%Y%m%d": "00000000"}


def _date(value, settings, rng):
    formats = settings.get("date_format", ())
    if value is NULL and settings.get("zero_date_null") and formats and formats[0] in ZEROS and rng.random() < 0.5:
        return ZEROS[formats[0]]
    if value is NULL:
        return NULL
    pattern = FORMATS[formats[0]] if formats else "%Y-%m-%d"
    return value.strftime(pattern).zfill(len(value.strftime(pattern)))


def _time(value, settings, rng):
    text = value.isoformat(rng.choice(" T"), "microseconds")
    return text + rng.choice("1234567890") if settings.get("subsecond") == "cut" and rng.random() < 0.5 else text


def _instant(value, _settings, rng):
    hours = rng.choice([0, 2, -5])
    return (value + dt.timedelta(hours=hours)).isoformat() + (f"{hours:+03d}:00" if hours else "Z")


FLOATS = st.one_of(
    st.decimals(min_value=-(10**9), max_value=10**9, places=3, allow_nan=False).map(lambda one: f"{one:f}"),
    st.integers(-(10**9), 10**9).map(str),
).filter(lambda text: text not in ("-0", "-0.000"))
TEXTS = st.one_of(
    st.text(st.sampled_from("ab,;|\t \"'\\\n\r#@:-.0\u00e4\u00a0\u200bN"), max_size=6),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4),
    st.sampled_from(["NULL", "\\N", "", " ", '"', '""', "00000000", "1", "# x", "-- y", "||", "a|", "@", "\ufeffx"]),
)
KINDS = {
    "text": Kind("STRING", "x y", TEXTS, lambda value, _settings, _rng: value),
    "integer": Kind("INTEGER", 1, st.integers(-(2**63), 2**63 - 1), _number),
    "float": Kind("FLOAT", "0.5", FLOATS, _number),
    "boolean": Kind("BOOLEAN", True, st.booleans(), lambda value, _settings, _rng: str(value).lower()),
    "date": Kind("DATETIME", dt.date(2024, 1, 31), st.dates(dt.date(1583, 1, 1), dt.date(9999, 12, 31)), _date),
    "time": Kind(
        "DATETIME",
        dt.datetime(2024, 1, 31, 10, 30),
        st.datetimes(dt.datetime(1583, 1, 1), dt.datetime(9999, 12, 31)),
        _time,
    ),
    "instant": Kind(
        "DATETIME",
        dt.datetime(2024, 1, 31, 10, 30),
        st.datetimes(dt.datetime(1583, 1, 2), dt.datetime(9999, 12, 30)).map(lambda one: one.replace(microsecond=0)),
        _instant,
    ),
}


def landed_value(kind, value):
    """Return a value as it must land."""
    if value is NULL:
        return NULL
    if kind == "float":
        return float(value)
    return dt.datetime.combine(value, dt.time()) if kind == "date" else value


# --- Strategies

DELIMITERS = (",", ";", "\t", "|", ":", "\x01", "~", "§", "@@", "||", ", ", "<->", "\u2028")
_ENCODINGS = (
    ("utf-8", None),
    ("utf-8-sig", None),
    ("utf-16", None),
    ("utf-32", None),
    ("utf-16-le", "utf-16-le"),
    ("cp1252", "cp1252"),
    ("shift_jis", "shift_jis"),
    ("gb18030", "gb18030"),
)


PRESETS = {
    "sap-list": {"delimiter": "|", "quote": "", "trim": True},
    "excel": {"delimiter": ";", "empty_columns": "drop", "trailing_delimiter": "drop"},
    "hive": {"delimiter": "\x01", "quote": "", "null": ("\\N",)},
    "de": {"decimal": ",", "thousands": ".", "date_format": ("dd.mm.yyyy",)},
    "sap": {"decimal": ".", "date_format": ("yyyymmdd",), "zero_date_null": True},
}
"""What presets stand for; the delimiter of Excel stands in the file."""


@st.composite
def dialects(draw, *, is_strict=False):
    """A dialect that the settings can say; with `is_strict`, one that Python's csv module knows, too."""
    if is_strict:
        settings, presets = draw(_marks(DELIMITERS[:7], ['"', '"', '"', "'", "^"])), {}
    else:
        settings, presets = draw(_marks(DELIMITERS, ['"', '"', '"', "'", "^", ""])), {}
        if draw(st.integers(0, 4)) == 0:
            presets["dialect"] = draw(st.sampled_from(["sap-list", "excel", "hive"]))
            settings = {} | PRESETS[presets["dialect"]]
        else:
            settings |= draw(_repairs(settings["delimiter"]))
        if draw(st.integers(0, 4)) == 0:
            presets["locale"] = draw(st.sampled_from(["de", "sap"]))
            settings |= PRESETS[presets["locale"]]
        else:
            settings |= draw(_signs())
    if presets.get("dialect") not in ("sap-list", "excel") and not is_strict:
        settings |= draw(_lines())
    settings |= {"header": True} if is_strict or presets or draw(st.booleans()) else draw(_no_header_line())
    if not settings.get("header"):
        settings = {name: value for name, value in settings.items() if name not in _OF_HEADERS}
    file_encoding, encoding = draw(st.sampled_from(_ENCODINGS[:1] * 5 + _ENCODINGS if is_strict else _ENCODINGS))
    return Dialect(
        settings | ({"encoding": encoding} if encoding else {}),
        presets,
        line_end=draw(st.sampled_from(["\n", "\n", "\r\n", "\r"])),
        file_encoding=file_encoding,
        compression="" if is_strict else draw(st.sampled_from(["", "", "", *COMPRESS])),
        has_final_line_end=draw(st.booleans()),
        garbage=draw(st.sampled_from(["printed by X", 'a "quoted" word', "it's; a, mixed | line", "="])),
    )


_OF_HEADERS = ("trailing_delimiter", "nameless", "duplicate_names")


@st.composite
def _marks(draw, delimiters, quotes):
    """Settings of delimiter, quote and escape."""
    settings = {"delimiter": draw(st.sampled_from(delimiters))}
    quote = draw(st.sampled_from(quotes))
    escape = draw(st.sampled_from([None, None, "\\", "!"]))
    if quote != '"' or draw(st.booleans()):
        settings["quote"] = quote
    return settings | ({"escape": escape} if escape else {})


@st.composite
def _repairs(draw, delimiter):
    """Settings of blanks, words for NULL, and columns without a name of their own."""
    settings = {}
    if draw(st.integers(0, 3)) == 0 and not set(delimiter) & set(BLANKS):
        settings["trim"] = True
    if draw(st.integers(0, 3)) == 0:
        settings["null"] = draw(st.sampled_from([("NULL",), ("NULL", "N/A", "-"), ("n.a.",)]))
    repair = draw(st.sampled_from([*[None] * 5, "trailing_delimiter", "nameless", "duplicate_names"]))
    return settings | ({repair: "drop" if repair == "trailing_delimiter" else "rename"} if repair else {})


@st.composite
def _no_header_line(draw):
    """Settings of a file without a header line; `names` stands for the names of the table."""
    return draw(st.sampled_from([{"names": ()}, {"header": False, "names": ()}, {"header": False}]))


@st.composite
def _lines(draw):
    """Settings of lines that are neither the header line nor rows."""
    settings = {}
    if draw(st.integers(0, 3)) == 0:
        settings["skip_lines"] = draw(st.integers(1, 3))
    if draw(st.integers(0, 3)) == 0:
        settings["skip_footer"] = draw(st.integers(1, 3))
    if draw(st.integers(0, 3)) == 0:
        settings["comment"] = draw(st.sampled_from(["#", "-- ", "//"]))
    return settings


@st.composite
def _signs(draw):
    """Settings of numbers and dates."""
    settings = draw(
        st.sampled_from(
            [
                *[{}] * 3,
                {"decimal": ","},
                {"decimal": ",", "thousands": "."},
                {"thousands": ","},
                {"thousands": "'"},
                {"decimal": ",", "thousands": "\u00a0"},
                {"decimal": "."},
            ]
        )
    )
    if draw(st.booleans()):
        settings = settings | {"date_format": (draw(st.sampled_from(list(FORMATS))),)}
    if draw(st.integers(0, 3)) == 0:
        settings = settings | {"zero_date_null": True}
    if draw(st.integers(0, 3)) == 0:
        settings = settings | {"subsecond": "cut"}
    return settings


@st.composite
def tables(draw, kinds=tuple(KINDS)):
    """Columns (name -> kind) and rows; the first row shows the types, the second one is without NULLs only by chance."""
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=4))
    names = {f"{draw(st.sampled_from(['C', 'Name ', 'ä', 'x.y']))}{number}": kind for number, kind in enumerate(chosen)}
    rows = draw(st.lists(st.tuples(*(st.one_of(st.none(), KINDS[kind].values) for kind in names.values())), max_size=8))
    return names, [tuple(KINDS[kind].anchor for kind in names.values()), *rows]


def spelled(names, rows, dialect, rng):
    """Return the rows as texts."""
    spellers = [KINDS[kind].spell for kind in names.values()]
    return [
        [
            NULL if value is NULL and kind != "date" else spell(value, dialect.settings, rng)
            for value, spell, kind in zip(row, spellers, names.values(), strict=True)
        ]
        for row in rows
    ]


def written(names, rows, dialect, seed):
    """Return the bytes of a file with a header line.

    Raises:
        CannotWriteError: The dialect cannot spell a value.
    """
    rng = random.Random(seed)
    return dialect.file(list(names), spelled(names, rows, dialect, rng), rng)
