"""Examples at the end of each command's `--help`. A test parses each of them."""

from __future__ import annotations

_EXAMPLES: dict[str, tuple[str, ...]] = {
    "demo": ("pushengine demo", "pushengine demo --cases 100000 --database demo.duckdb"),
    "init": ("pushengine init /data/extracts",),
    "push": (
        "pushengine push extracts/vbak_*.csv.gz --table VBAK",
        "pushengine push orders.parquet --table ORDERS --mode upsert --key ORDER_ID",
        "pushengine push german.csv --table SALES --locale de --emulator try.duckdb",
    ),
    "plan": ("pushengine plan extracts/vbak_*.csv.gz --table VBAK",),
    "load": ("pushengine load --dry-run", "pushengine load sap 'orders.*'", "pushengine load --continue"),
    "resume": ("pushengine resume", "pushengine resume 20260101T135800Z-1a2b3c4d"),
    "history": ("pushengine history --limit 50",),
    "show": ("pushengine show VBAK", "pushengine show 20260101T1358"),
    "report": ("pushengine report", "pushengine report --since 7d --format html --output week.html"),
    "check": ("pushengine check",),
    "emulator": ("pushengine emulator --port 8080 --database pool.duckdb",),
    "quota": ("pushengine quota", "pushengine quota reset"),
    "quota reset": ("pushengine quota reset",),
    "jobs list": ("pushengine jobs list",),
    "jobs show": ("pushengine jobs show bdc54a35-74f9-4d84-bd7f-0c8f57986de4",),
    "jobs delete": ("pushengine jobs delete bdc54a35-74f9-4d84-bd7f-0c8f57986de4",),
    "schema show": ("pushengine schema show", "pushengine schema show VBAK"),
    "schema export": ("pushengine schema export VBAK --output vbak.toml",),
    "schema import": ("pushengine schema import VBAK vbak.toml",),
    "schema forget": ("pushengine schema forget VBAK",),
    "state show": ("pushengine state show", "pushengine state show sap.VBAK"),
    "state skip": ("pushengine state skip sap.VBAK /data/VBAK_20261127_1.csv.gz",),
    "state retire": ("pushengine state retire sap.VBAK",),
    "state set": ("pushengine state set orders.ORDERS 2026-11-27T00:00:00Z",),
    "state export": ("pushengine state export --all --output state.json",),
    "state import": ("pushengine state import state.json",),
    "resolve": (
        "pushengine resolve 20260101T135800Z-1a2b3c4d --loaded",
        "pushengine resolve 20260101T135800Z-1a2b3c4d --not-loaded",
    ),
    "journal check": ("pushengine journal check",),
    "journal export": ("pushengine journal export --output facts.jsonl",),
    "journal prune": ("pushengine journal prune --dry-run", "pushengine journal prune --before 90d"),
    "config check": ("pushengine config check", "pushengine config check --config night.toml"),
    "config show": ("pushengine config show", "pushengine config show sap.VBAK"),
    "config schema": ("pushengine config schema > pushengine.schema.json",),
    "help": ("pushengine help", "pushengine help loads"),
    "completion": (
        "pushengine completion bash > ~/.local/share/bash-completion/completions/pushengine",
        'eval "$(pushengine completion zsh)"',
        "pushengine completion fish > ~/.config/fish/completions/pushengine.fish",
    ),
}


def examples_of(command: str) -> tuple[str, ...]:
    """Return the examples of a command, named by its words (`schema show`); empty if it has none."""
    return _EXAMPLES.get(command, ())
