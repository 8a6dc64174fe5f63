"""Each benchmark runs and prints the documented keys; the figures of such tiny runs mean nothing."""

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
    "csv_dialects": (
        ["--rows", "600", "--before", str(FOLDER.parent)],
        {"csv_mb"},
        {"escapes_cpu_over_plain", "quoted_cpu_over_before", "push_plain_cpu_over_before"},
        {"sap_list": SIDE, "quoted_before": SIDE, "push_plain": SIDE | {"chunks"}},
    ),
    "tables": (
        ["--rows", "600", "--variants", "chunk_16,zstd"],
        {"csv_mb"},
        {"log_zstd_cpu", "wide_zstd_payload", "texts_chunk_16_payload"},
        {"quoted_chunk_16": {"cpu_seconds_per_gb", "payload_mb_per_gb", "chunks"}},
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
        {"small_peak_whole_over_part", "small_peak_over_formula"},
        {"small_part": SIDE, "small_whole": SIDE | {"base_rss_mb", "over_base_mb", "formula_mb"}},
    ),
    "ledger": (
        ["--rows", "5"],
        {"processes", "is_exact"},
        {"granted_p99_over_flushed", "paced_p99_over_fdatasync", "hammering_p99_over_fdatasync"},
        {
            "hammering": {"p50_ms", "p99_ms", "granted"},
            "per_second": {"most_in_any_second"},
            "paced": {"p99_ms"},
            "granted": {"p99_ms", "max_ms"},
            "flushed": {"p99_ms"},
            "fdatasync": {"p50_ms"},
        },
    ),
    "journal": (
        ["--rows", "3000", "--facts", "20"],
        {"csv_mb"},
        {
            "journal_over_push",
            "waited_over_push",
            "journal_over_small_push",
            "push_over_in_memory",
            "fact_p50_over_fdatasync",
            "alone_over_together_ms_per_fact",
        },
        {
            "push": SIDE | {"journal_share", "waited_share", "calls"},
            "small_push": {"journal_share"},
            "in_memory": {"seconds"},
            "alone": {"p50_ms", "p99_ms", "ms_per_fact"},
            "together": {"facts_per_commit"},
        },
    ),
    "link": (
        ["--rows=20000", "--mb=6", "--fixed=2", "--ramp-seconds=0.2", "--mb-per-second=2", "--link-mb-per-second=6"],
        {"link", "best_fixed", "limits"},
        {
            "adaptive_steady_over_link",
            "adaptive_steady_over_best_fixed",
            "adaptive_whole_over_link",
            "adaptive_whole_over_best_fixed",
        },
        {
            "adaptive": SIDE | {"steady_mb_per_second", "steady_limit", "chunk_mb"},
            "fixed_2": SIDE | {"steady_mb_per_second", "steady_limit"},
        },
    ),
    "parquet_push": (
        ["--rows", "3000", "--kinds", "erp"],
        {"file_mb", "is_equal", "link", "settings"},
        {
            "erp_raw_seconds_over_as_it_is",
            "erp_decoded_seconds_over_as_it_is",
            "erp_decoded_cpu_over_as_it_is",
            "erp_encoded_seconds_over_as_it_is",
            "erp_encoded_cpu_over_as_it_is",
            "erp_recode_seconds_over_cut",
            "erp_recode_cpu_over_cut",
        },
        {
            "erp_as_it_is": SIDE | {"payload_mb", "chunks"},
            "erp_raw": SIDE | {"chunks"},
            "erp_decoded": SIDE,
            "erp_encoded": SIDE,
            "erp_cut": SIDE,
            "erp_recode": SIDE,
        },
    ),
    "duplicate_keys": (
        ["--rows", "3000"],
        {"csv_mb"},
        {f"{key}_over_{whole}" for key in ("int", "text", "composite") for whole in ("encode", "push")},
        {
            "push": SIDE,
            "int": SIDE | {"hash_ns_per_row", "runs_ns_per_row", "search_ns_per_row", "held_mb", "disk_mb"},
            "text": SIDE,
            "composite": SIDE,
        },
    ),
    "loads": (
        ["--rows", "20", "--tables", "40", "--apart", "1"],
        {"tables", "parallel", "csv_mb", "is_under_400_mb"},
        {"together_seconds_over_whole", "together_over_apart_per_table", "load_over_apart_per_table"},
        {
            "load": {"seconds", "cpu_seconds", "peak_rss_mb", "seconds_per_table"},
            "together": SIDE | {"seconds_per_table", "commits"},
            "whole": SIDE,
            "apart": {"seconds", "seconds_per_table"},
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
    """Run a script; return its name and the JSON that it printed."""
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
    # what must hold for any run, however small and slow
    assert result.get("is_exact", True)
    assert result.get("is_one_job_and_one_submit", True)
    assert result.get("is_equal", True)
    assert result.get("is_under_400_mb", True)
    assert not result.get("profile", {}).get("missing")


def test_300_small_tables_use_the_whole_hour_without_a_429(tmp_path):
    """The real engine in virtual time, pushes by four engines on one host: every table is complete, with 250 submits in the first hour."""
    done = subprocess.run(
        [sys.executable, FOLDER / "hour.py", "--repeat", "1", "--sides", "engines", "--rows", "5"],
        env=os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(FOLDER.parent)},
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result) >= COMMON | {"tables", "begun_at"}
    assert result["is_whole_hour_used"]
    assert result["is_without_429"]
    assert result["is_at_most_10_in_any_second"]
    figures = {name: value["median"] for name, value in result["figures"]["engines"].items()}
    assert (figures["submits"], figures["in_first_hour"], figures["in_second_hour"]) == (300, 250, 50)
