"""The arguments and options that commands share, and the parsing of their values."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer
import typer.core

from pushengine.errors import ConfigError
from pushengine.model import ColumnType

DATABASE_SUFFIXES = (".duckdb", ".ddb", ".db")
_MAY_BE_EMPTY = frozenset({"emulator"})  # `join_optional_value` turns a bare `--emulator` into `--emulator=`


class ModeName(enum.StrEnum):
    """How the rows change the table."""

    REPLACE = "replace"
    APPEND = "append"
    UPSERT = "upsert"
    DELETE = "delete"


class FormatName(enum.StrEnum):
    """Format of source files."""

    CSV = "csv"
    PARQUET = "parquet"
    JSONL = "jsonl"
    ARROW = "arrow"


class LogFormatName(enum.StrEnum):
    """Format of the output on stderr."""

    CONSOLE = "console"
    JSON = "json"


Sources = Annotated[
    list[str],
    typer.Argument(metavar="SOURCE", help="Files, globs or folders for one table; - is standard input."),
]
Table = Annotated[str, typer.Option("--table", metavar="NAME", help="Target table.")]
ModeOption = Annotated[ModeName, typer.Option("--mode", help="How rows are loaded; upsert and delete need --key.")]
Keys = Annotated[list[str] | None, typer.Option("--key", metavar="COL", help="Primary key column; repeatable.")]
Format = Annotated[
    FormatName | None, typer.Option("--format", help="Format of the files; detected from their names if not given.")
]
Columns = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="NAME=TYPE", help="Type of a column, as in PRICE=FLOAT; repeatable."),
]
Url = Annotated[str | None, typer.Option("--url", metavar="URL", help="Team URL  [PUSHENGINE_URL]")]
Pool = Annotated[str | None, typer.Option("--pool", metavar="ID", help="Data pool  [PUSHENGINE_POOL_ID]")]
Connection = Annotated[
    str | None, typer.Option("--connection", metavar="ID", help="Data connection  [PUSHENGINE_CONNECTION_ID]")
]
ConfigPath = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Config file  [PUSHENGINE_CONFIG]")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print only errors.")]
LogFormatOption = Annotated[
    LogFormatName | None, typer.Option("--log-format", help="Progress, or a JSON line per event  [PUSHENGINE_LOG]")
]
EmulatorOption = Annotated[
    str | None,
    typer.Option(
        "--emulator", metavar="[DATABASE]", help="Push into an embedded emulator; a .duckdb file keeps its tables."
    ),
]
PushIdArgument = Annotated[str, typer.Argument(metavar="PUSH_ID", help="Id of the push, or a unique prefix of it.")]
JobIdArgument = Annotated[str, typer.Argument(metavar="JOB_ID", help="Id, as `jobs list` shows it.")]


def _reject_empty_arguments(command: Any, ctx: Any, args: list[str]) -> None:
    """Reject empty arguments and option values.

    An unset shell variable leaves an empty argument, which would silently mean something else: the current directory, or the value from the
    environment or the config file.

    Raises:
        typer.BadParameter: An argument or option value is empty.
    """
    # Checked before conversion: afterwards, an empty path is the same as `.`.
    values, _, _ = command.make_parser(ctx).parse_args(args=list(args))
    for param in command.params:
        value = values.get(param.name)
        is_empty = "" in value if isinstance(value, list | tuple) else value == ""
        if is_empty and param.name not in _MAY_BE_EMPTY:
            raise typer.BadParameter("it is empty; is a shell variable unset?", ctx=ctx, param=param)


class Command(typer.core.TyperCommand):
    """A command that rejects empty arguments and option values."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments after checking that none is empty."""
        _reject_empty_arguments(self, ctx, args)
        return super().parse_args(ctx, args)


class Group(typer.core.TyperGroup):
    """A command with subcommands that rejects empty arguments and option values."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments after checking that none is empty."""
        _reject_empty_arguments(self, ctx, args)
        return super().parse_args(ctx, args)


def join_optional_value(arguments: Sequence[str]) -> list[str]:
    """Join `--emulator` and its optional value: `--emulator x.duckdb` becomes `--emulator=x.duckdb`, a bare one `--emulator=`.

    The next argument is the database if it ends in .duckdb, .ddb or .db and does not begin with `-`. Anything else is a source or an
    option. `--emulator=anything` stays unchanged, and so does everything after `--`.
    """
    joined: list[str] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word == "--":
            return [*joined, word, *words]
        if word == "--emulator":
            is_database = bool(words) and words[0].lower().endswith(DATABASE_SUFFIXES) and not words[0].startswith("-")
            word += f"={words.pop(0) if is_database else ''}"
        joined.append(word)
    return joined


def parse_columns(columns: Sequence[str]) -> dict[str, ColumnType]:
    """Parse `NAME=TYPE` values into a mapping from column name to type.

    Raises:
        ConfigError: A value has no name or no `=`, the type does not exist, or a column has two types.
    """
    types: dict[str, ColumnType] = {}
    for word in columns:
        name, separator, kind = word.rpartition("=")
        known = ", ".join(get_args(ColumnType))
        if not separator or not name:
            raise ConfigError(f"--column {word}: not NAME=TYPE", key="--column", hint=f"TYPE is one of {known}")
        if kind.upper() not in get_args(ColumnType):
            raise ConfigError(f"--column {word}: no such type {kind!r}", key="--column", hint=f"one of {known}")
        if name in types:
            raise ConfigError(f"--column {word}: {name} has a type already", key="--column", hint="keep one of them")
        types[name] = cast("ColumnType", kind.upper())
    return types
