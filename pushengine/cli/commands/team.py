"""`check`, `quota` and `quota reset`: check access to the team, show and repair its submit quota."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pushengine.cli import exit_codes, options, runner, session, terminal
from pushengine.errors import ConfigError

if TYPE_CHECKING:
    from pushengine.config.load import Config
    from pushengine.model import CheckResult
    from pushengine.quota.ledger import SqliteLedger


def check(
    url: options.Url = None,
    pool: options.Pool = None,
    config: options.ConfigPath = None,
    as_json: options.AsJson = False,
) -> None:
    """Check URL, TLS, credentials, scope and permission. One line each, with the remedy."""

    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.cli.describe import describe_checks

        results = await _check(session.load_config(config=config, url=url, pool=pool))
        failed = [result for result in results if result.is_ok is False]
        if as_json:
            terminal.print_json({"is_ok": not failed, "checks": [result.to_dict() for result in results]})
        else:
            terminal.print_result(describe_checks(results))
        if failed:
            error = failed[0].error
            raise typer.Exit(exit_codes.exit_code_for(error) if error is not None else exit_codes.EXIT_FAILED)

    runner.run(body, as_json=as_json)


async def _check(loaded: Config) -> list[CheckResult]:
    """Run the checks. A missing or wrong setting becomes a failed check.

    Raises:
        ConfigError: A setting that no check covers is bad.
    """
    from pushengine.celonis.checks import results_for_bad_setting

    try:
        async with session.open_engine(loaded) as engine:
            return await engine.check()
    except ConfigError as error:
        results = results_for_bad_setting(error)
        if results is None:
            raise
        return results


def quota(
    context: typer.Context,
    url: options.Url = None,
    config: options.ConfigPath = None,
    as_json: options.AsJson = False,
) -> None:
    """Show what is left of this hour's submits, and what blocks them. Reads only the ledger of this host; sends nothing."""
    if context.invoked_subcommand is not None:  # the subcommand reads these options from its parent context
        return

    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.cli.describe import describe_quota
        from pushengine.quota.ledger import quota_status

        with _ledger_of_team(url, config) as (ledger, team, now):
            status = quota_status(ledger, team, now)
        if as_json:
            terminal.print_json(status.to_dict())
        else:
            terminal.print_result(describe_quota(status))

    runner.run(body, as_json=as_json)


def reset_quota(
    context: typer.Context,
    url: options.Url = None,
    config: options.ConfigPath = None,
    as_json: options.AsJson = False,
) -> None:
    """Clear blocks, and times recorded while the clock was wrong. Never clears this hour's count."""
    before = context.parent.params if context.parent is not None else {}
    url, config, as_json = (
        url or before.get("url"),
        config or before.get("config"),
        as_json or bool(before.get("as_json")),
    )

    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.cli.describe import describe_quota
        from pushengine.quota.ledger import quota_status

        with _ledger_of_team(url, config) as (ledger, team, now):
            cleared = ledger.reset(team, now)
            status = quota_status(ledger, team, now)
        summary = f"cleared for {team}: {'; '.join(cleared)}" if cleared else f"nothing to clear for {team}"
        if as_json:
            terminal.print_to_stderr([summary])
            terminal.print_json(status.to_dict())
        else:
            terminal.print_result([summary, *describe_quota(status)])

    runner.run(body, as_json=as_json)


@contextlib.contextmanager
def _ledger_of_team(url: str | None, config: Path | None) -> Iterator[tuple[SqliteLedger, str, float]]:
    """Open the quota ledger of this host; yield it with the team and the current time (seconds since 1970)."""
    from pushengine.celonis.wire import parse_team_url
    from pushengine.quota.ledger import open_ledger
    from pushengine.runtime.clock import SystemClock

    loaded = session.load_config(config=config, url=url, wants_credentials=False)
    _, team = parse_team_url(loaded.require_url())
    loaded.state.make()
    with contextlib.closing(open_ledger(loaded.engine, loaded.state.quota)) as ledger:
        yield ledger, team, SystemClock().now()
