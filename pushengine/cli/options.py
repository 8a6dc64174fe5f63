"""The arguments and options that commands share, and the parsing of their values."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
import typer.core

from pushengine.cli.help.examples import examples_of
from pushengine.errors import ConfigError
from pushengine.model import ColumnType, Drift, DuplicateKeys, MissingColumns, NewColumns, TypeChanges
from pushengine.schema.rules import RequestedType
from pushengine.text import flag, parse_duration

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


class ShellName(enum.StrEnum):
    """A shell that can complete words."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


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
    typer.Option(
        "--column",
        metavar="NAME=TYPE",
        help="Type of a column or of all that match a pattern: PRICE=FLOAT, 'MATNR=STRING(40)', '*=STRING'; repeatable.",
    ),
]
ColumnsFile = Annotated[
    Path | None,
    typer.Option("--columns", metavar="FILE", help="Types of columns from a file, as `schema export` writes it."),
]
Rename = Annotated[
    list[str] | None,
    typer.Option("--rename", metavar="OLD=NEW", help="Send column OLD of the source as NEW; repeatable."),
]
Select = Annotated[list[str] | None, typer.Option("--select", metavar="COL", help="Send only this column; repeatable.")]
Exclude = Annotated[list[str] | None, typer.Option("--exclude", metavar="COL", help="Leave a column out; repeatable.")]
DriftOption = Annotated[
    Drift | None, typer.Option("--drift", help="May the source differ from the table? freeze refuses every difference.")
]
NewColumnsOption = Annotated[
    NewColumns | None, typer.Option("--new-columns", help="Columns that the table lacks: add, refuse or leave out.")
]
MissingColumnsOption = Annotated[
    MissingColumns | None, typer.Option("--missing-columns", help="Columns that the source lacks: NULL, or refuse.")
]
TypesOption = Annotated[
    TypeChanges | None, typer.Option("--types", help="Types and lengths in a replace: widen if needed, or refuse.")
]
DuplicateKeysOption = Annotated[
    DuplicateKeys | None,
    typer.Option("--duplicate-keys", help="Rows of one upsert with equal keys: refuse, load the last, or allow."),
]
OrderBy = Annotated[
    str | None,
    typer.Option("--order-by", metavar="COL", help="Of rows with equal keys, the platform keeps the highest COL."),
]
AllowEmpty = Annotated[
    bool, typer.Option("--allow-empty", help="Load an empty source: a replace then leaves an empty table.")
]
MinRows = Annotated[
    int | None, typer.Option("--min-rows", min=0, metavar="N", help="Refuse a replace with fewer rows.")
]
MaxDrop = Annotated[
    float | None,
    typer.Option(
        "--max-drop", min=0, max=1, metavar="SHARE", help="Refuse a replace that loses a larger share of rows."
    ),
]
MaxRejects = Annotated[
    str | None,
    typer.Option(
        "--max-rejects",
        metavar="N|SHARE",
        help="Leave out up to 5, 0.01 or 1% rows that cannot be loaded, and list them.",
    ),
]
RejectsFolder = Annotated[
    Path | None, typer.Option("--rejects", metavar="DIR", help="Folder of the files that list rejected rows.")
]
Patience = Annotated[
    str | None,
    typer.Option(
        "--patience", metavar="TIME", help="Wait this long for a platform that does not respond: 90s, 30m, 2h."
    ),
]
LoadId = Annotated[
    str | None,
    typer.Option(
        "--load-id", metavar="ID", help="Name this push: once DONE, the same ID only gives its receipt again."
    ),
]
Url = Annotated[str | None, typer.Option("--url", metavar="URL", help="Team URL  [PUSHENGINE_URL]")]
Pool = Annotated[str | None, typer.Option("--pool", metavar="ID", help="Data pool  [PUSHENGINE_POOL_ID]")]
Connection = Annotated[
    str | None, typer.Option("--connection", metavar="ID", help="Data connection  [PUSHENGINE_CONNECTION_ID]")
]
ConfigPath = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Config file  [PUSHENGINE_CONFIG]")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else.")]
Output = Annotated[Path | None, typer.Option("--output", metavar="FILE", help="File to create; stdout if not given.")]
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
EmulatorState = Annotated[
    Path | None,
    typer.Option("--emulator", metavar="DATABASE", help="What `--emulator DATABASE` recorded, in DATABASE.state."),
]
PushWords = Annotated[
    str,
    typer.Argument(
        metavar="PUSH|JOB|TABLE",
        help="Id of a push or of its job, a unique prefix of one, or a table: its newest push.",
    ),
]
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


def _write_examples(ctx: Any, formatter: Any) -> None:
    """Write the examples of a command at the end of its help, each on a line of its own."""
    words = ctx.command_path.partition(" ")[2]
    if examples := examples_of(words):
        with formatter.section("Examples" if len(examples) > 1 else "Example"):
            for example in examples:
                formatter.write(f"{'':{formatter.current_indent}}{example}\n")


class Command(typer.core.TyperCommand):
    """A command that rejects empty arguments and option values, and whose help ends with examples."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples, and then what typer writes."""
        _write_examples(ctx, formatter)
        super().format_epilog(ctx, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments after checking that none is empty."""
        _reject_empty_arguments(self, ctx, args)
        return super().parse_args(ctx, args)


class Group(typer.core.TyperGroup):
    """A command with subcommands that rejects empty arguments and option values, and whose help ends with examples."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples, and then what typer writes."""
        _write_examples(ctx, formatter)
        super().format_epilog(ctx, formatter)

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


def parse_columns(columns: Sequence[str]) -> dict[str, str]:
    """Parse `NAME=TYPE` values into a mapping from column name or pattern to type.

    Raises:
        ConfigError: A value has no name or no `=`, the type does not exist, or a column has two types.
    """
    types: dict[str, str] = {}
    for word in columns:
        name, separator, kind = word.rpartition("=")
        if not separator or not name:
            raise ConfigError(
                f"--column {word}: not NAME=TYPE",
                key="--column",
                hint=f"TYPE is one of {', '.join(get_args(ColumnType))} or STRING(n)",
            )
        try:
            requested = RequestedType.parse(kind)
        except ValueError as error:
            raise ConfigError(f"--column {word}: {error}", key="--column") from None
        if name in types:
            raise ConfigError(f"--column {word}: {name} has a type already", key="--column", hint="keep one of them")
        types[name] = str(requested)
    return types


def parse_patience(word: str | None) -> dict[str, float]:
    """Return the value of `--patience` as an override of settings; empty if it is not given.

    Raises:
        ConfigError: It is not a duration.
    """
    if word is None:
        return {}
    seconds = parse_duration(word)
    if seconds is None:
        raise ConfigError(
            f"--patience {word}: not a duration",
            key="--patience",
            hint=f"{flag('patience', '30m')}, or 90s, 2h or a number of seconds",
        )
    return {"patience": seconds}


def parse_renames(renames: Sequence[str]) -> dict[str, str]:
    """Parse `OLD=NEW` values.

    Raises:
        ConfigError: A value has no `=` or an empty name, or a column is renamed twice.
    """
    names: dict[str, str] = {}
    for word in renames:
        old, separator, new = word.partition("=")
        if not separator or not old or not new:
            raise ConfigError(f"--rename {word}: not OLD=NEW", key="--rename")
        if old in names:
            raise ConfigError(f"--rename {word}: {old} is renamed already", key="--rename", hint="keep one of them")
        names[old] = new
    return names
