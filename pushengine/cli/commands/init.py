"""`init`: a first config file from a folder of extracts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from pushengine.cli import runner, terminal
from pushengine.errors import ConfigError
from pushengine.text import flag, format_count, shown_name

FolderArgument = Annotated[
    Path, typer.Argument(metavar="[FOLDER]", help="Folder with the files to load; subfolders belong to it.")
]
OutputFile = Annotated[Path, typer.Option("--output", metavar="FILE", help="Config file to create.")]


def init(folder: FolderArgument = Path(), *, output: OutputFile = Path("pushengine.toml")) -> None:
    """Write a first config file from a folder of files. Finds tables, patterns, modes and how the files are written; sends nothing."""

    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.cli.init.names import SPECIAL, list_names, rules_of
        from pushengine.cli.init.writing import FILL_IN, config_text, examined_rule
        from pushengine.runtime.aio import announce_when_slow
        from pushengine.state.file_errors import setting_errors, status
        from pushengine.state.folder import default_state_dir

        with setting_errors("cannot write", output, key="--output"):
            if status(output) is not None:
                raise ConfigError(
                    f"{shown_name(str(output))} exists",
                    key="--output",
                    hint=f"name another: {flag('output', 'new.toml')}",
                )
        place = Path(os.path.abspath(folder))  # noqa: ASYNC240, PTH100 - links stay as they are named
        if SPECIAL.search(str(place)):
            raise ConfigError(
                f"the path {shown_name(str(place))} has characters that mean something in a pattern: * ? [ ] {{ }}",
                key="FOLDER",
                hint="rename the folder, or name it by a symbolic link",
            )
        with setting_errors("cannot read the folder", folder, key="FOLDER"):
            files, others = list_names(place)
        if not files:
            raise ConfigError(
                f"no csv, parquet or arrow files in {shown_name(str(folder))}",
                key="FOLDER",
                hint="name the folder with the extracts: pushengine init FOLDER",
            )
        with announce_when_slow(lambda: terminal.print_to_stderr(["reading the start of each table's newest file"])):
            rules = [await examined_rule(one) for one in rules_of(files, place)]
        text = config_text(rules, others, folder=place, state_dir=default_state_dir(), environ=os.environ)
        with terminal.writing_to(output) as file:
            file.write(text)
        tables = sum(len(rule.named.files) for rule in rules)
        unread = [table for rule in rules for table, one in rule.examined.items() if one.problem]
        terminal.print_result(
            [
                f"{shown_name(str(output))}: {format_count(tables, 'table')} in {format_count(len(rules), 'load')}",
                *([f"cannot be read yet, see the comments: {', '.join(map(shown_name, unread))}"] if unread else []),
                *([f"for the team, fill in the lines marked {FILL_IN}"] if FILL_IN in text else []),
                f"next: pushengine load --dry-run{'' if output == Path('pushengine.toml') else ' ' + flag('config', str(output))}",
            ]
        )

    runner.run(body)
