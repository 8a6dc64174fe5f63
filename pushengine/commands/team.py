"""`check` and `quota`: is the team within reach, and how much may still be submitted."""

from __future__ import annotations

import contextlib

import typer

from pushengine import failures, options, runner, session, terminal


def check(
    url: options.Url = None,
    pool: options.Pool = None,
    config: options.ConfigPath = None,
    as_json: options.AsJson = False,
) -> None:
    """Check URL, TLS, credentials, scope and permission. One line each, with the remedy."""

    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.display import describe_checks

        async with session.open_engine(session.load_config(config=config, url=url, pool=pool)) as engine:
            results = await engine.check()
        failures = [result for result in results if result.is_ok is False]
        if as_json:
            terminal.say_json({"is_ok": not failures, "checks": [result.to_dict() for result in results]})
        else:
            terminal.say(describe_checks(results))
        if failures:
            error = failures[0].error
            raise typer.Exit(failures.exit_code_for(error) if error is not None else failures.EXIT_FAILED)

    runner.run(body, on_error=runner.tell_json if as_json else None)


def quota(url: options.Url = None, config: options.ConfigPath = None, as_json: options.AsJson = False) -> None:
    """Show what is left of this hour's submits. As far as this host knows; asks nobody."""

    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.api import open_ledger, quota_status
        from pushengine.clock import SystemClock
        from pushengine.display import describe_quota
        from pushengine.wire import parse_team_url

        loaded = session.load_config(config=config, url=url, wants_credentials=False)
        _, team = parse_team_url(loaded.require_url())
        with contextlib.closing(open_ledger(loaded.engine, loaded.state_dir)) as ledger:
            status = quota_status(ledger, team, SystemClock().now())
        if as_json:
            terminal.say_json(status.to_dict())
        else:
            terminal.say(describe_quota(status))

    runner.run(body, on_error=runner.tell_json if as_json else None)
