"""`jobs`: list, show and delete the push jobs of the pool, whoever created them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pushengine.cli import exit_codes, options, runner, session, terminal
from pushengine.errors import NotFoundError, ServerError, TransportError

if TYPE_CHECKING:
    from pushengine.engine import PushEngine
    from pushengine.model import Job


def _job_to_dict(job: Job) -> dict[str, Any]:
    changed = job.last_modified.isoformat() if job.last_modified else None
    return {**dataclasses.asdict(job), "status": job.status.value, "last_modified": changed}


def list_jobs(
    url: options.Url = None,
    pool: options.Pool = None,
    config: options.ConfigPath = None,
    as_json: options.AsJson = False,
) -> None:
    """List the push jobs of the pool, whoever created them."""

    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.cli.describe import describe_jobs

        async with session.open_engine(session.load_config(config=config, url=url, pool=pool)) as engine:
            jobs = await engine.list_jobs()
        if as_json:
            terminal.print_json({"jobs": [_job_to_dict(job) for job in jobs]})
        else:
            terminal.print_result(describe_jobs(jobs))

    runner.run(body, as_json=as_json)


def show_job(
    job_id: options.JobIdArgument,
    url: options.Url = None,
    pool: options.Pool = None,
    config: options.ConfigPath = None,
    as_json: options.AsJson = False,
) -> None:
    """Show one push job with its chunks and logs."""

    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.cli.describe import describe_job

        async with session.open_engine(session.load_config(config=config, url=url, pool=pool)) as engine:
            job = await engine.get_job(job_id)
            chunks = await engine.list_chunks(job_id)
        if as_json:
            terminal.print_json({**_job_to_dict(job), "chunks": [dataclasses.asdict(chunk) for chunk in chunks]})
        else:
            terminal.print_result(describe_job(job, chunks))

    runner.run(body, as_json=as_json)


def delete_jobs(
    job_ids: Annotated[list[str], typer.Argument(metavar="JOB_ID", help="Ids, as `jobs list` shows them.")],
    url: options.Url = None,
    pool: options.Pool = None,
    config: options.ConfigPath = None,
    as_json: options.AsJson = False,
) -> None:
    """Delete push jobs and their chunks; rows that were loaded into tables stay there."""
    deleted: list[str] = []

    async def body(_interrupts: runner.Interrupts) -> None:
        loaded = session.load_config(config=config, url=url, pool=pool)
        missing: list[str] = []
        async with session.open_engine(loaded) as engine:
            for job_id in dict.fromkeys(job_ids):
                if not await _delete_job(engine, job_id):
                    missing.append(job_id)
                    continue
                deleted.append(job_id)
                if not as_json:
                    terminal.print_result([f"job {job_id} is deleted"])
        if missing:
            raise NotFoundError(
                f"there {'is no job' if len(missing) == 1 else 'are no jobs'} {', '.join(missing)} in pool {loaded.pool_id}",
                status=404,
                hint="`pushengine jobs list` shows the existing jobs; check the team and the pool",
            )
        if as_json:
            terminal.print_json({"deleted": deleted})

    def on_error(error: BaseException) -> None:
        if as_json:
            terminal.print_json({"status": "ERROR", "deleted": deleted, "error": exit_codes.describe_error(error)})

    runner.run(body, on_error=on_error)


async def _delete_job(engine: PushEngine, job_id: str) -> bool:
    """Delete a job and return whether it existed."""
    try:
        await engine.get_job(job_id)  # `delete_job` does not fail for a job that does not exist
    except NotFoundError:
        return False
    try:
        await engine.delete_job(job_id)
    except (TransportError, ServerError):
        # The job may be deleted already. Try again here: a second run of the command would report that there is no such job.
        await engine.delete_job(job_id)
    return True
