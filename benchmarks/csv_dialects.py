"""How fast are text files of other dialects read, compared with plain CSV, and plain and quoted CSV compared with earlier code?

Sides:
  DIALECT            CPU time of reading the file on one thread: types inferred, each row parsed and converted to the types that are sent
  DIALECT_before     the same by the code in the folder `--before` (plain and quoted only)
  push_..._before    `PushEngine.push()` over TLS, as in csv_push.py (plain and quoted only, with `--before`)

All files hold the same event log. To compare with a commit: `git worktree add /tmp/earlier COMMIT`, then `--before /tmp/earlier`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import csv_push
import harness
from harness import Meter

BOTH = ("plain", "quoted")
"""Dialects that earlier code reads, too."""


# ------------------------------------------------------------------------------------------------------------------ dialects


def _decimal_comma(text: bytes) -> bytes:
    return re.sub(rb"(\d)\.(\d+;[^;\n]*)(?=\n)", rb"\1,\2", text.replace(b",", b";"))


def _german_dates(text: bytes) -> bytes:
    return re.sub(rb"(\d{4})-(\d\d)-(\d\d)T", rb"\3.\2.\1 ", text)


def _sap_list(text: bytes) -> bytes:
    header, _, rows = text.replace(b",", b"|").rstrip(b"\n").partition(b"\n")
    ruler = b"-" * 120
    lines = [ruler, b"|%b|" % header, ruler, *(b"|%b|" % row for row in rows.split(b"\n")), ruler]
    return b"\n".join(lines) + b"\n"


def _comments(text: bytes) -> bytes:
    header, *lines = text.split(b"\n")
    return b"\n".join(
        [header, *(b"# page\n" + line if number % 50 == 0 else line for number, line in enumerate(lines))]
    )


DIALECTS: Mapping[str, tuple[dict[str, Any], Callable[[bytes], bytes]]] = {
    "plain": ({}, bytes),
    "quoted": ({}, bytes),
    "several_characters": ({"delimiter": "||"}, lambda text: text.replace(b",", b"||")),
    "escapes": ({"escape": "\\"}, lambda text: text.replace(b"3-way match", b"3\\, way\\,match")),
    "no_quotes": ({"quote": ""}, bytes),
    "single_quotes": ({"quote": "'"}, lambda text: text.replace(b'"', b"'")),
    "trim": ({"trim": True}, lambda text: text.replace(b",", b" , ")),
    "comments": ({"comment": "#"}, _comments),
    "null_words": ({"null": ("NULL",)}, lambda text: text.replace(b"3-way match", b"NULL")),
    "sap_list": ({"dialect": "sap-list"}, _sap_list),
    "decimal_comma": ({"delimiter": ";", "decimal": ",", "thousands": "."}, _decimal_comma),
    "date_format": ({"date_format": ("dd.mm.yyyy HH:MM:SS.ffffff",)}, _german_dates),
    "cp1252": ({"encoding": "cp1252"}, lambda text: text.decode().encode("cp1252")),
}
"""Settings, and what makes the file from plain or quoted CSV."""
FROM_QUOTED = ("quoted", "single_quotes")


def write_files(folder: Path, rows: int, names: list[str]) -> dict[str, Path]:
    """Write the event log in each dialect; return the files by name."""
    origins = {}
    for is_quoted in (False, True):
        origins[is_quoted] = folder / f"origin_{is_quoted}.csv"
        harness.write_event_log(origins[is_quoted], rows, is_quoted=is_quoted)
    files = {}
    for name in names:
        files[name] = folder / f"{name}.csv"
        files[name].write_bytes(DIALECTS[name][1](origins[name in FROM_QUOTED].read_bytes()))
    return files


# --------------------------------------------------------------------------------------------------------------------- sides


def _use(job: dict[str, Any]) -> None:
    """Import pushengine from the folder of the job, if it names one."""
    if job.get("package"):
        sys.path.insert(0, job["package"])
        import pushengine

        if not Path(pushengine.__file__).is_relative_to(job["package"]):
            raise SystemExit(f"{pushengine.__file__} is not in {job['package']}")


def read(job: dict[str, Any]) -> dict[str, Any]:
    """Read the file on one thread."""
    _use(job)
    import pyarrow as pa

    from pushengine.config.settings import EngineSettings
    from pushengine.runtime.files import LocalFileSystem
    from pushengine.schema.conform import conform
    from pushengine.schema.inference import SchemaInference
    from pushengine.schema.rules import SchemaRules
    from pushengine.sources import open_source

    harness.warm_up()
    pa.set_cpu_count(1)
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in job["settings"].items()}
    settings = EngineSettings(csv=given) if given else EngineSettings()
    rules = SchemaRules(formats=settings.csv.formats()) if given else SchemaRules()
    rows = 0
    # Import what is imported at the first file.
    next(iter(open_source(job["csv"], settings=settings, filesystem=LocalFileSystem()).sample(1)))
    with Meter() as meter:
        source = open_source(job["csv"], settings=settings, filesystem=LocalFileSystem())
        inference = SchemaInference(source.schema(), is_text=True, rules=rules)
        for batch in source.sample(settings.sample_bytes):
            inference.observe(batch)
        schema = inference.infer_schema()
        reader = source.open()
        for block in reader:
            rows += conform(schema, block.decode()).num_rows
        reader.close()
    types = {column.name: column.type for column in schema.columns}
    if rows != job["rows"] or (types["EVENTTIME"], types["NET_VALUE"]) != ("DATETIME", "FLOAT"):
        raise SystemExit(f"{job['csv']}: {rows} rows, {types}")
    return meter.figures(Path(job["csv"]).stat().st_size)


def push(job: dict[str, Any]) -> dict[str, Any]:
    """Push the file into a sink, as csv_push.py does."""
    _use(job)
    return csv_push.push({**job, "settings": {}})


# ---------------------------------------------------------------------------------------------------------------------- main


def main(args: Any, folder: Path) -> dict[str, Any]:
    """Run all sides in turn."""
    names = args.dialects.split(",") if args.dialects else list(DIALECTS)
    files = write_files(folder, args.rows, names)
    jobs = {name: ("read", {"csv": files[name], "settings": DIALECTS[name][0]}) for name in names}
    compared = [name for name in names if name in BOTH and args.before]
    for name in compared:
        before = {"package": str(Path(args.before).resolve())}
        jobs[f"{name}_before"] = ("read", {"csv": files[name], "settings": {}, **before})
        jobs[f"push_{name}"] = ("push", {"csv": files[name]})
        jobs[f"push_{name}_before"] = ("push", {"csv": files[name], **before})
    with harness.sink(folder) as sink:

        def once(name: str) -> dict[str, Any]:
            side, job = jobs[name]
            return harness.side(side, rows=args.rows, url=sink.url, ca_file=sink.ca_file, **job)

        runs = harness.interleaved(tuple(jobs), args.repeat, once)
    ratios = {
        f"{name}_cpu_over_plain": harness.ratio(runs[name], runs["plain"], "cpu_seconds")
        for name in names
        if name != "plain" and "plain" in names
    }
    for name in compared:
        ratios |= {
            f"{name}_cpu_over_before": harness.ratio(runs[name], runs[f"{name}_before"], "cpu_seconds"),
            f"push_{name}_seconds_over_before": harness.ratio(
                runs[f"push_{name}"], runs[f"push_{name}_before"], "seconds"
            ),
            f"push_{name}_cpu_over_before": harness.ratio(
                runs[f"push_{name}"], runs[f"push_{name}_before"], "cpu_seconds"
            ),
        }
    return {
        "csv_mb": round(files[names[0]].stat().st_size / harness.MB, 1),
        "ratios": ratios,
        "figures": {name: harness.spreads(one) for name, one in runs.items()},
    }


if __name__ == "__main__":
    harness.run(
        harness.arguments(
            __doc__,
            rows=1_000_000,
            dialects={"default": "", "help": "names of some dialects, joined with commas"},
            before={
                "default": "",
                "help": "folder with earlier code of pushengine to compare plain and quoted CSV with",
            },
        ),
        {"read": read, "push": push},
        main,
    )
