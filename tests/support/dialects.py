"""A writer of text files in any dialect that the settings can say, for tests that read them back."""

import dataclasses
import random

from hypothesis import strategies as st

from pushengine.config.csv_settings import CsvSettings
from pushengine.sources.csv.rows import BLANKS


class UnsayableError(Exception):
    """The dialect has no way to write a value."""


@dataclasses.dataclass
class Writer:
    """Writes tables.

    Args:
        csv: The dialect. Its delimiter must be given.
        line_end: End of each line.
        rng: Decides where there is more than one way to write something.
        extras: Whether to add empty lines and comment lines.
    """

    csv: CsvSettings
    line_end: str = "\n"
    rng: random.Random = dataclasses.field(default_factory=lambda: random.Random(0))
    extras: bool = True

    def __post_init__(self):
        self.csv = self.csv.filled()
        self._delimiter = self.csv.delimiter
        self._quote = self.csv.quote_character
        self._escape = self.csv.escape or ""
        marks = (self._delimiter, self._quote)
        self._blanks = "".join(blank for blank in BLANKS if blank not in marks) if self.csv.trim else ""

    def table(self, names, rows):
        """Return the text of a table: a list of names, and rows of texts and None.

        Raises:
            UnsayableError: A value cannot be written.
        """
        return "".join(line + end for line, end, _ in self.lines(names, rows))

    def lines(self, names, rows):
        """Return each row as (text, line end, number of its first line), with all other lines as rows of their own."""
        width = len(names)
        written = [(self._noise(), None) for _ in range(self.csv.skip_lines or 0)]
        if self.csv.has_header:
            written += self._extra_lines(width, before_header=True)
            written.append((self.row(names, is_header=True), None))
        for number, row in enumerate(rows):
            written += self._extra_lines(width)
            written.append((self.row(row), number))
        written += self._extra_lines(width)
        written += [(self._noise(), None) for _ in range(self.csv.skip_footer or 0)]
        has_end = self.rng.random() < 0.8 or not written or not written[-1][0]
        found = []
        line = 1
        for index, (text, number) in enumerate(written):
            end = self.line_end if has_end or index < len(written) - 1 else ""
            found.append((text, end, (number, line) if number is not None else None))
            line += (text + end).count(self.line_end[-1])
        return found

    def row(self, values, *, is_header=False):
        """Return one row without its line end."""
        fields = [self.field(value, index, values, is_header=is_header) for index, value in enumerate(values)]
        return self._delimiter.join(fields)

    def field(self, value, index, values, *, is_header=False):
        """Return one field, in one of the ways that the dialect has."""
        if value is None:
            words = [word for word in self.csv.null if not self._misleads(word, index)]
            return self._padded(self.rng.choice(["", *words]), is_plain=True, is_alone=len(values) == 1)
        ways = [self._plain(value, index, values, is_header=is_header), self._quoted(value)]
        ways = [way for way in ways if way is not None]
        if not ways:
            raise UnsayableError(value)
        return self.rng.choice(ways)

    def _plain(self, value, index, values, *, is_header):
        """The value without quotes; None if that is not possible."""
        is_last = index == len(values) - 1
        if value == "" or (self.line_end == "\n" and value.endswith("\r") and is_last):
            return None
        text = value
        if self._escape:
            special = {self._escape, self._quote, self._delimiter[0], "\r", "\n"}
            text = "".join(
                self._escape + char if char in special or self.rng.random() < 0.02 else char for char in value
            )
            if value[0] in self._blanks and not text.startswith(self._escape):
                text = self._escape + text
            if value[-1] in self._blanks and not self._escaped_last(value, text):
                text = text[:-1] + self._escape + text[-1]
            if self._misleads(text, index) and not text.startswith(self._escape):
                text = self._escape + text
        elif "\r" in value or "\n" in value or (self._blanks and value.strip(self._blanks) != value):
            return None
        followed = text if is_last else text + self._delimiter
        if not self._escape and followed.find(self._delimiter) not in (-1, len(text)):
            return None
        if self._quote and text.startswith(self._quote):
            return None
        if self._misleads(text, index) or (not is_header and text in self.csv.null):
            return None
        return self._padded(text, is_plain=True)

    def _escaped_last(self, value, text):
        escapes = len(text[:-1]) - len(text[:-1].rstrip(self._escape))
        return len(value) > 0 and escapes % 2 == 1

    def _misleads(self, text, index):
        """Whether a first field would make its row a comment."""
        return bool(self.csv.comment) and index == 0 and text.startswith(self.csv.comment)

    def _quoted(self, value):
        if not self._quote:
            return None
        doubled = self._quote * 2
        if not self._escape:
            inside = value.replace(self._quote, doubled)
        else:
            parts = []
            for char in value:
                if char == self._quote:
                    parts.append(self.rng.choice([doubled, self._escape + char]))
                elif char == self._escape or self.rng.random() < 0.02:
                    parts.append(self._escape + char)
                else:
                    parts.append(char)
            inside = "".join(parts)
        return self._padded(self._quote + inside + self._quote, is_plain=False)

    def _padded(self, text, *, is_plain, is_alone=False):
        """Return a field with blanks around it, if the dialect trims."""
        if not self._blanks or is_alone or self.rng.random() < 0.5:
            return text
        before, after = ("".join(self.rng.choices(self._blanks, k=self.rng.randrange(3))) for _ in range(2))
        return before + text + after

    def _extra_lines(self, width, *, before_header=False):
        found = []
        while self.extras and self.rng.random() < 0.2:
            if self.csv.comment and self.rng.random() < 0.7:
                found.append((self.csv.comment + self._noise(), None))
            elif width > 1 or before_header:
                found.append(("", None))
        return found

    def _noise(self):
        """A line that is no row."""
        return "".join(self.rng.choices(["a", " ", self._delimiter, self._quote or "'", '"', "é", "#"], k=5))


DELIMITERS = [",", ";", "\t", "|", ":", " ", "\x01", "\x1f", "@@", "||", "|~|", "§", "¦", "<=>", "ab", ", "]
QUOTES = ['"', "'", "`", ""]
ESCAPES = [None, None, "\\", "^", "%"]


@st.composite
def dialects(draw):
    """Settings of a dialect, with the delimiter given."""
    delimiter = draw(st.sampled_from(DELIMITERS))
    quote = draw(st.sampled_from(QUOTES))
    escape = draw(st.sampled_from(ESCAPES))
    values = {
        "delimiter": delimiter,
        "quote": None if quote == '"' else quote,
        "escape": escape,
        "comment": draw(st.sampled_from([None, None, "#", "//"])),
        "trim": draw(st.sampled_from([None, True])),
        "skip_lines": draw(st.sampled_from([None, 0, 1, 3])),
        "skip_footer": draw(st.sampled_from([None, 0, 1, 3])),
        "null": draw(st.sampled_from([(), ("NULL",), ("\\N", "N/A")])),
        "header": draw(st.sampled_from([None, None, False])),
    }
    return CsvSettings(**{name: value for name, value in values.items() if value is not None})


def cells(csv):
    """Texts that are hard to write in a dialect, and None."""
    marks = [csv.delimiter, *csv.delimiter, csv.quote_character, csv.escape or "\\", csv.comment or "#"]
    parts = [mark for mark in marks if mark] + [
        "a",
        "b",
        "é",
        " ",
        "\t",
        "\u00a0",
        "\u200b",
        "\r",
        "\n",
        "\r\n",
        '"',
        "N",
    ]
    texts = st.lists(st.sampled_from([*parts, "NULL", "\\N", "N/A", "\x1f", "0"]), max_size=4).map("".join)
    return st.none() | texts


@st.composite
def tables(draw, csv):
    """Names and rows for a dialect."""
    width = draw(st.integers(1, 4))
    names = [f"C{number}" if csv.has_header else f"column_{number + 1}" for number in range(width)]
    rows = draw(st.lists(st.lists(cells(csv), min_size=width, max_size=width), max_size=12))
    if not csv.has_header and (not rows or (width == 1 and rows[0][0] is None)):
        rows = [["a"] * width, *rows]  # the first row shows the number of columns
    return names, rows
