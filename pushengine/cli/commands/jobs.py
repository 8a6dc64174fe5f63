"""`jobs`: the push jobs of the pool, whoever made them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pushengine.cli import options, runner, session, terminal

if TYPE_CHECKING:
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
    """List the push jobs of the pool, whoever made them."""

    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.cli.describe import describe_jobs

        async with session.open_engine(session.load_config(config=config, url=url, pool=pool)) as engine:
            jobs = await engine.list_jobs()
        if as_json:
            terminal.say_json({"jobs": [_job_to_dict(job) for job in jobs]})
        else:
            terminal.say(describe_jobs(jobs))

    runner.run(body, on_error=runner.tell_json if as_json else None)


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
            terminal.say_json({**_job_to_dict(job), "chunks": [dataclasses.asdict(chunk) for chunk in chunks]})
        else:
            terminal.say(describe_job(job, chunks))

    runner.run(body, on_error=runner.tell_json if as_json else None)


def delete_jobs(
    job_ids: Annotated[list[str], typer.Argument(metavar="JOB_ID")],
    url: options.Url = None,
    pool: options.Pool = None,
    config: options.ConfigPath = None,
    as_json: options.AsJson = False,
) -> None:
    """Delete push jobs and their chunks; what was loaded into tables stays there."""

    async def body(_interrupts: runner.Interrupts) -> None:
        async with session.open_engine(session.load_config(config=config, url=url, pool=pool)) as engine:
            for job_id in job_ids:
                await engine.delete_job(job_id)
        if as_json:
            terminal.say_json({"deleted": job_ids})
        else:
            terminal.say([f"job {job_id} is deleted" for job_id in job_ids])

    runner.run(body, on_error=runner.tell_json if as_json else None)
