"""Each benchmark runs and prints what its readers look for; the figures of such tiny runs mean nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
COMMON = {"benchmark", "at", "versions", "machine", "rows", "repeat", "elapsed_seconds", "ratios", "figures"}
SIDE = {"seconds", "mb_per_second", "cpu_seconds", "cpu_seconds_per_gb", "peak_rss_mb"}

CASES = {
    "csv_push": (
        ["--rows", "3000", "--profile", "--quoted"],
        {"csv_mb", "link", "settings", "sink_cpu_seconds_per_gb", "profile"},
        {
            "duckdb_seconds_over_push",
            "floor_seconds_over_push",
            "vendor_seconds_over_push",
            "vendor_cpu_over_push",
        },
        {
            "push": SIDE | {"whole_push_seconds", "payload_mb", "chunks"},
            "duckdb": SIDE,
            "vendor": SIDE,
            "floor": {"seconds"},
        },
    ),
    "upload_body": (
        ["--rows", "1"],
        {"loop_lag_ms", "loop_busy_ms", "idle_loop_lag_ms", "uploads", "payload_mib"},
        {"client_mb_per_second_over_sendall", "client_cpu_over_sendall"},
        {"client": SIDE | {"extra_mb_per_upload"}, "sendall": SIDE | {"extra_mb_per_upload"}},
    ),
    "memory": (
        ["--rows", "3000", "--budgets", "small"],
        {"csv_mb", "formula", "mb_per_second_per_connection"},
        {"small_peak_whole_over_tenth", "small_peak_over_formula"},
        {"small_tenth": SIDE, "small_whole": SIDE | {"base_rss_mb", "over_base_mb", "formula_mb"}},
    ),
    "ledger": (
        ["--rows", "5"],
        {"processes", "is_exact"},
        {"paced_p99_over_fdatasync", "hammering_p99_over_fdatasync"},
        {"hammering": {"p50_ms", "p99_ms", "granted"}, "per_second": {"most_in_any_second"}, "fdatasync": {"p50_ms"}},
    ),
    "journal": (
        ["--rows", "3000", "--facts", "20"],
        {"csv_mb"},
        {"journal_busy_over_push", "fact_p50_over_fdatasync", "alone_over_together_ms_per_fact"},
        {
            "push": SIDE | {"journal_busy_share"},
            "alone": {"p50_ms", "p99_ms", "ms_per_fact"},
            "together": {"facts_per_commit"},
        },
    ),
    "small_files": (
        ["--rows", "400", "--files", "20"],
        {"files", "is_one_job_and_one_submit"},
        {"files_seconds_over_one_file"},
        {
            "files": SIDE | {"jobs", "submits"},
            "one_file": SIDE,
            "help": {"ms", "cpu_ms"},
            "import": {"ms"},
            "python": {"ms"},
        },
    ),
}


@pytest.fixture(params=CASES)
def printed(request, tmp_path):
    """(name, JSON that the script printed)."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PUSHENGINE_")}
    done = subprocess.run(
        [sys.executable, FOLDER / f"{request.param}.py", "--repeat", "1", *CASES[request.param][0]],
        env=environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(FOLDER.parent)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return request.param, json.loads(done.stdout)


def test_prints_json_with_the_documented_keys(printed):
    name, result = printed
    _, keys, ratios, sides = CASES[name]
    assert result["benchmark"] == name
    assert set(result) >= COMMON | keys
    assert set(result["ratios"]) >= ratios
    for figures in result["ratios"].values():
        assert set(figures) == {"min", "median", "max"}
    for side, figures in sides.items():
        assert set(result["figures"][side]) >= figures
    assert result["versions"]["pushengine"]
    assert result["machine"]["cores"]
    # what must hold however small and slow the run was
    assert result.get("is_exact", True)
    assert result.get("is_one_job_and_one_submit", True)
    assert not result.get("profile", {}).get("missing")
