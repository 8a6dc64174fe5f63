"""`demo` and `emulator`: run on this machine, without an account and without a network."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pushengine.cli import database_file, exit_codes, options, runner, session, terminal
from pushengine.cli.hints import Hints
from pushengine.state.file_errors import temporary_folder
from pushengine.text import shell_word

if TYPE_CHECKING:
    from pushengine.emulator import EmulatorCredentials


def demo(
    cases: Annotated[int, typer.Option("--cases", min=1, max=2_000_000, help="Cases, about 7 rows each.")] = 20_000,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the generated log.")] = 1,
    database: Annotated[
        Path | None, typer.Option("--database", metavar="FILE", help="Keep the table in a DuckDB file.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Push a generated event log into the embedded emulator. Queries the table afterwards; needs no account and no network."""
    hints = Hints(keeps_pushes=False)

    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.cli import demo as demo_run
        from pushengine.config.load import LogSettings

        if database is not None:
            database_file.try_database(database, "--database")
        log = LogSettings(format="json" if terminal.log_format.is_json else "console")
        display, sinks = terminal.choose_sinks(log, is_json=as_json, is_quiet=False)
        with display:
            display.note(f"generating a purchase-to-pay log of {cases:,} cases, seed {seed}")
            result = await demo_run.run(cases=cases, seed=seed, database=database, sinks=sinks)
        if as_json:
            terminal.print_json(result.to_dict())
        else:
            bar = "\u2588" if sys.stdout.isatty() and "utf" in sys.stdout.encoding.lower() else "#"
            terminal.print_result(demo_run.describe_demo(result, bar=bar))

    def on_error(error: BaseException) -> None:
        if as_json:
            receipt_json = exit_codes.failed_receipt(error, table="P2P_ACTIVITIES", mode="replace", hints=hints)
            terminal.print_json(receipt_json)

    runner.run(body, on_error=on_error, hints=hints)


def emulator(
    *,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, metavar="N", help="Port on 127.0.0.1; 0 takes a free one.")
    ] = 0,
    database: Annotated[
        Path | None, typer.Option("--database", metavar="FILE", help="Keep the tables in a DuckDB file.")
    ] = None,
    strict_auth: Annotated[
        bool, typer.Option("--strict-auth", help="Accept only the credentials from the environment or the config file.")
    ] = False,
    connection: Annotated[
        list[str] | None,
        typer.Option(
            "--connection", metavar="ID", help="A data connection that exists; repeatable. Default: any id exists."
        ),
    ] = None,
    faults: Annotated[
        Path | None,
        typer.Option("--faults", metavar="FILE", help="Fault plan in JSON or TOML: what goes wrong, and when."),
    ] = None,
    tls: Annotated[
        bool, typer.Option("--tls", help="Serve https, with a certificate from a new private CA (extra: tls).")
    ] = False,
    config: options.ConfigPath = None,
) -> None:
    """Run the Data Push API on 127.0.0.1. Stores tables in DuckDB and runs until interrupted."""

    async def body(interrupts: runner.Interrupts) -> None:
        from pushengine.emulator import EmulatorSettings

        settings = EmulatorSettings(
            credentials=_emulator_credentials(config) if strict_auth else None,
            connection_ids=frozenset(connection) if connection else None,
            fault_plan=session.load_fault_plan(faults) if faults else None,
        )
        stop = asyncio.Event()
        interrupts.drain = stop.set
        # Only this user can read a temporary folder.
        with temporary_folder("pushengine-emulator-ca-") as folder:
            certificate, ca_file = session.make_certificate(folder) if tls else (None, None)
            async with session.open_emulator(database, port=port, settings=settings, tls=certificate) as running:
                lines = _emulator_lines(running.url, database, faults, is_strict=strict_auth)
                terminal.print_result([*lines, *(_trust_lines(ca_file) if ca_file else [])])
                await stop.wait()

    runner.run(body)


def _emulator_credentials(config: Path | None) -> EmulatorCredentials:
    from pushengine.credentials import OAuthClient, UserApiKey
    from pushengine.emulator import EmulatorCredentials

    credentials = session.load_config(config=config).require_credentials()
    if isinstance(credentials, OAuthClient):
        return EmulatorCredentials(client_id=credentials.client_id, client_secret=credentials.client_secret.reveal())
    if isinstance(credentials, UserApiKey):
        return EmulatorCredentials(api_key=credentials.key.reveal())
    return EmulatorCredentials(app_key=credentials.key.reveal())


def _emulator_lines(url: str, database: Path | None, faults: Path | None, *, is_strict: bool) -> list[str]:
    lines = [
        f"Data Push API emulator at {url}, tables in {database or 'memory'}; Ctrl-C stops it.",
        "Any pool id is accepted, and "
        + ("only the credentials of your environment or config file:" if is_strict else "any credentials:"),
        *([f"Calls fail as specified in {faults}."] if faults else []),
        "",
        f"export PUSHENGINE_URL={url}",
        f"export PUSHENGINE_POOL_ID={session.EMULATOR_POOL}",
    ]
    return lines if is_strict else [*lines, "export PUSHENGINE_API_KEY=anything"]


def _trust_lines(ca_file: Path) -> list[str]:
    return [
        "",
        "# Let clients trust its certificate while it runs. For pushengine alone, [engine] of a config file is enough:",
        f"#   ca_file = {json.dumps(str(ca_file))}",
        f"export SSL_CERT_FILE={shell_word(str(ca_file))}",
        f"export REQUESTS_CA_BUNDLE={shell_word(str(ca_file))}",
    ]
