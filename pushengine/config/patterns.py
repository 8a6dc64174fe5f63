"""Paths with placeholders, by which a rule of the config file finds the files of its tables.

| in a pattern | matches |
|---|---|
| `{table}` | at least one character within a file or folder name; as little as it can up to the next literal |
| `{date}`, `{date:FORMAT}` | a valid date in this format; without one `%Y-%m-%d`. Known are `%Y %y %m %d %j %H %M %S` and `%%` |
| `{seq}` | digits, compared as a number |
| `{part}` | letters and digits |
| `*` | anything within a file or folder name |
| `**` | any number of folders, as a whole component of the path |
| `?`, `[abc]`, `[!abc]` | one character, as in the patterns of `pushengine push` |
| `{{`, `}}` | a literal brace |

A path that ends in `/` stands for the files of that folder, and so does the path of a folder without placeholders. Like in a shell, no
placeholder or `*` matches a dot at the beginning of a name.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import glob
import itertools
import re
from typing import Literal

Placeholder = Literal["table", "date", "seq", "part"]
DEFAULT_DATE_FORMAT = "%Y-%m-%d"
_KINDS: tuple[Placeholder, ...] = ("table", "date", "seq", "part")
_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|(?<![^/])\*\*/|\*+|\?|\[!?\]?[^\]/{}]*\]|[{}]")
_DIRECTIVES = {
    "Y": "[1-9][0-9]{3}",
    "y": "[0-9]{2}",
    "m": "(?:0[1-9]|1[0-2])",
    "d": "(?:0[1-9]|[12][0-9]|3[01])",
    "j": "(?:00[1-9]|0[1-9][0-9]|[12][0-9]{2}|3[0-5][0-9]|36[0-6])",
    "H": "(?:[01][0-9]|2[0-3])",
    "M": "[0-5][0-9]",
    "S": "[0-5][0-9]",
    "%": "%",
}
"""What each directive of a date format matches."""
_NEEDS = {"d": "m", "H": "d", "M": "H", "S": "M"}
"""Directives that mean nothing without another one."""
_NO_DOT = "(?!\\.)"
_EXPRESSIONS = {
    "table": "",
    "seq": "(?P<seq>[0-9]+)",
    "part": "(?P<part>[0-9A-Za-z]+)",
    "star": "([^/]*?)",
    "folders": f"((?:{_NO_DOT}[^/]+/)*)",
}
_NEEDS_LITERAL = "put a literal character between them"


@dataclasses.dataclass(frozen=True, slots=True)
class Match:
    """What the placeholders of a pattern stand for in one path.

    Attributes:
        table: None if the pattern has no `{table}`; the same for the others.
        date: Without a time zone; the parts that the format does not have are the lowest possible ones.
        seq: The number.
        seq_text: The number as it is written.
        part: As it is written.
        rest: What each `*`, `**`, `?` and `[...]` matched, in order.
    """

    table: str | None = None
    date: dt.datetime | None = None
    seq: int | None = None
    seq_text: str | None = None
    part: str | None = None
    rest: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class SourcePattern:
    """A path with placeholders. Create it with `parse`.

    Attributes:
        text: The pattern as it was given.
        placeholders: The placeholders in their order.
        date_format: Format of `{date}`; None if there is none.
        glob: A glob for `FileSystem.list` that finds every file that the pattern matches, and maybe others.
    """

    text: str
    placeholders: tuple[Placeholder, ...]
    date_format: str | None
    glob: str
    _tokens: tuple[_Token, ...] = dataclasses.field(repr=False)
    _before: str = dataclasses.field(repr=False)
    _after: str = dataclasses.field(repr=False)

    @classmethod
    def parse(cls, text: str) -> SourcePattern:
        """Parse a pattern.

        Raises:
            ValueError: It is not valid; the message says why.
        """
        tokens = tuple(_tokens(f"{text}*" if text.endswith("/") else text))
        if not tokens:
            raise ValueError("it is empty")
        placeholders = tuple(token.kind for token in tokens if token.kind in _KINDS)
        for kind in placeholders:
            if placeholders.count(kind) > 1:
                raise ValueError(f"{{{kind}}} appears twice")
        _require_literals_between(tokens)
        expressions = [
            _expression(token, begins_name=_begins_name(tokens, index)) for index, token in enumerate(tokens)
        ]
        split = next((index for index, token in enumerate(tokens) if token.kind == "table"), len(tokens))
        after = "".join(expressions[split + 1 :])
        if all(token.kind == "literal" for token in tokens):
            after = f"(?:/{_NO_DOT}([^/]+))?"  # the path may be that of a folder
        return cls(
            text=text,
            placeholders=placeholders,
            date_format=next((token.text for token in tokens if token.kind == "date"), None),
            glob="".join(map(_glob, tokens)),
            _tokens=tokens,
            _before="".join(expressions[:split]),
            _after=after,
        )

    @property
    def has_order(self) -> bool:
        """Whether the pattern has a placeholder that orders generations: `{date}` or `{seq}`."""
        return "date" in self.placeholders or "seq" in self.placeholders

    def match(self, path: str) -> Match | None:
        """Return what the placeholders stand for in a path; None if the path does not match."""
        shortest = 1
        while True:
            table = f"(?P<table>[^/]{{{shortest},}}?)" if "table" in self.placeholders else ""
            if "table" in self.placeholders and (self._before.endswith("/") or not self._before):
                table = f"{_NO_DOT}{table}"
            found = re.fullmatch(f"{self._before}{table}{self._after}", path, re.DOTALL)
            if found is None:
                return None
            try:
                return self._match(found)
            except ValueError:  # February 30: a longer name of the table may end before a valid date
                if not table:
                    return None
                shortest = len(found["table"]) + 1

    def _match(self, found: re.Match[str]) -> Match:
        named = found.groupdict()
        numbers = set(found.re.groupindex.values())
        seq = named.get("seq")
        return Match(
            table=named.get("table"),
            date=None if self.date_format is None else parse_date(named["date"], self.date_format),
            seq=None if seq is None else int(seq),
            seq_text=seq,
            part=named.get("part"),
            rest=tuple(text or "" for number, text in enumerate(found.groups(), 1) if number not in numbers),
        )

    def render(
        self,
        *,
        table: str | None = None,
        date: dt.datetime | None = None,
        seq: str | int | None = None,
        part: str | None = None,
    ) -> str:
        """Return the path that the pattern stands for with these values.

        Raises:
            ValueError: The pattern has a placeholder without a value, or a wildcard.
        """
        values = {"table": table, "seq": None if seq is None else str(seq), "part": part}
        pieces = []
        for token in self._tokens:
            value = token.text if token.kind == "literal" else values.get(token.kind)
            if token.kind == "date" and date is not None:
                value = date.strftime(token.text)
            if value is None:
                shown = f"{{{token.kind}}}" if token.kind in _KINDS else token.text
                raise ValueError(f"there is nothing to put in place of {shown}")
            pieces.append(value)
        return "".join(pieces)


def parse_date(text: str, date_format: str) -> dt.datetime:
    """Return the date that a text stands for.

    Raises:
        ValueError: It is none in this format.
    """
    return dt.datetime.strptime(text, date_format)  # noqa: DTZ007 - the time zone is that of the load


# --- Parsing ------------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class _Token:
    """A piece of a pattern.

    Attributes:
        kind: A placeholder, `literal`, `star`, `folders` (`**/`) or `one` (`?`, `[...]`).
        text: The literal or wildcard, or the format of a date.
    """

    kind: str
    text: str


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    for found in _TOKEN.finditer(text):
        _add_literal(tokens, text[position : found.start()])
        position = found.end()
        token = found[0]
        if token in {"{{", "}}"}:
            _add_literal(tokens, token[0])
        elif token in {"{", "}"}:
            raise ValueError(f"a single {token!r}: write {token * 2!r} for a brace in a name")
        elif token.startswith("{"):
            tokens.append(_placeholder(found[1]))
        elif token == "**/":  # noqa: S105 - not a password
            tokens.append(_Token("folders", token))
        elif token.startswith("*"):
            tokens.append(_Token("star", "*"))
        else:
            tokens.append(_Token("one", token))
    _add_literal(tokens, text[position:])
    return tokens


def _add_literal(tokens: list[_Token], text: str) -> None:
    if text and tokens and tokens[-1].kind == "literal":
        tokens[-1] = _Token("literal", tokens[-1].text + text)
    elif text:
        tokens.append(_Token("literal", text))


def _placeholder(text: str) -> _Token:
    name, colon, date_format = text.partition(":")
    if name not in _KINDS:
        known = ", ".join(f"{{{kind}}}" for kind in _KINDS)
        raise ValueError(f"no placeholder {{{text}}}; known are {known}, with a format such as {{date:%Y%m%d}}, and *")
    if colon and name != "date":
        raise ValueError(f"{{{name}}} takes no format: write {{{name}}}")
    if name != "date":
        return _Token(name, "")
    _check_date_format(date_format if colon else DEFAULT_DATE_FORMAT)
    return _Token("date", date_format if colon else DEFAULT_DATE_FORMAT)


def _check_date_format(date_format: str) -> None:
    directives = re.findall("%(.?)", date_format)
    unknown = [f"%{one}" for one in directives if one not in _DIRECTIVES]
    if unknown:
        raise ValueError(f"no {unknown[0]} in a date format; known are %Y, %y, %m, %d, %j, %H, %M, %S")
    used = [one for one in directives if one != "%"]
    if any(used.count(one) > 1 for one in used):
        raise ValueError(f"the date format {date_format!r} has a part twice")
    if ("Y" in used) == ("y" in used):
        raise ValueError(f"the date format {date_format!r} needs a year: %Y or %y, for example {{date:%Y%m%d}}")
    if "j" in used and ("m" in used or "d" in used):
        raise ValueError(f"the date format {date_format!r} has %j, the day of the year, and a month or day")
    have = {*used, *("md" if "j" in used else "")}
    for one, needed in _NEEDS.items():
        if one in have and needed not in have:
            raise ValueError(f"the date format {date_format!r} has %{one} without %{needed}")


def _require_literals_between(tokens: tuple[_Token, ...]) -> None:
    for one, other in itertools.pairwise(tokens):
        both = {one.kind, other.kind}
        if both <= set(_KINDS) or ("table" in both and both & {"star", "one"}):
            raise ValueError(f"{_shown(one)} and {_shown(other)} stand side by side: {_NEEDS_LITERAL}")


def _shown(token: _Token) -> str:
    return f"{{{token.kind}}}" if token.kind in _KINDS else token.text


def _begins_name(tokens: tuple[_Token, ...], index: int) -> bool:
    if index == 0:
        return True
    before = tokens[index - 1]
    return before.kind == "folders" or (before.kind == "literal" and before.text.endswith("/"))


def _expression(token: _Token, *, begins_name: bool) -> str:
    """Return the regular expression of a token. That of `{table}` is built by `SourcePattern.match`."""
    if token.kind == "literal":
        return re.escape(token.text)
    if token.kind == "date":
        pieces = re.split("%(.)", token.text)
        body = "".join(_DIRECTIVES[piece] if number % 2 else re.escape(piece) for number, piece in enumerate(pieces))
        return f"(?P<date>{body})"
    if token.kind == "one":
        body = "[^/]" if token.text == "?" else _character_class(token.text)
        return f"{_NO_DOT if begins_name else ''}({body})"
    return (_NO_DOT if begins_name and token.kind == "star" else "") + _EXPRESSIONS[token.kind]


def _character_class(text: str) -> str:
    inner = text[1:-1]
    negated = inner.startswith("!")
    body = re.sub(r"([\\\]\[^&~|])", r"\\\1", inner[negated:])
    expression = f"[{'^/' if negated else ''}{body}]"
    try:
        re.compile(expression)
    except re.error as error:
        raise ValueError(f"{text} is no set of characters") from error
    return expression


def _glob(token: _Token) -> str:
    if token.kind == "literal":
        return glob.escape(token.text)
    if token.kind == "date":
        return "/".join("*" for _ in token.text.split("/"))
    return token.text if token.kind in {"folders", "one"} else "*"
