"""Whatever files a folder has, `pushengine init` ends with a config file that is understood, or says why not; never with a traceback."""

import contextlib
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.hostile import run_command

from pushengine.config.load import Flags
from pushengine.config.loads.reading import load_loads
from pushengine.config.patterns import SourcePattern

PIECES = st.sampled_from(
    ["VBAK", "vbak", "T001", "20261126", "2026-11-27", "26.11.2026", "20260230", "001", "2", "part", "export", "delta", "_", "-", ".", " ",
     "é", "$x", "${X}", '"', "\n", "\\", "235959", "part-00000-ab"]
)  # fmt: skip
NAME = st.lists(PIECES, min_size=1, max_size=5).map("".join)
SUFFIX = st.sampled_from([".csv", ".CSV", ".csv.gz", ".txt", ".tsv", ".parquet", ".xlsx", ""])
CONTENT = st.sampled_from(
    [b"", b"A,B\n1,2\n", b"A;B\n1,5;26.11.2026\n", b"A;N\n1.234,5;M\xfcller\n", b"A,A\n1,2\n", b'A\n"x', b"\x00\x01", b"PAR1", b"A,B\n1\n", b"\x1f\x8b"]
)  # fmt: skip
FILES = st.dictionaries(
    st.tuples(st.sampled_from(["", "", "VBAP/", "2026-11-26/", "sub dir/"]), NAME, SUFFIX).map("".join),
    CONTENT,
    max_size=6,
)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PUSHENGINE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PUSHENGINE_STATE_DIR", str(tmp_path / "state"))
    return tmp_path


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(FILES)
@example({"20261126.csv": b"A\n1\n", "files.csv": b"A\n1\n"})
@example({"VBAK.csv": b"", "VBAK20261126.CSV": b""})
@example({"VBAK_20261126.csv": b"A\n1\n", "VBAK.csv": b"A\n1\n"})
@example({"VBAK_20261126.csv": b"A\n1\n", "VBAP/VBAK_20261126.csv": b"A\n1\n", "vbak.parquet": b""})
@example({"T001.csv": b"A\n1\n", "T001_001.csv": b"A\n1\n", "T001_002.csv": b"A\n1\n"})
def test_any_folder(files):
    folder = Path("files")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    Path("pushengine.toml").unlink(missing_ok=True)
    for name, content in files.items():
        path = folder / name
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    result = run_command(["init", "files"])
    assert result.code in (0, 2), result
    assert Path("pushengine.toml").exists() == (result.code == 0)
    if result.code:
        return
    _, loads = load_loads(Flags(config=Path("pushengine.toml")), {}, wants_credentials=False)
    claims = {}
    for rule in loads.rules:
        for source in rule.sources:
            pattern = SourcePattern.parse(source)
            for path in folder.absolute().rglob("*"):
                match = pattern.match(str(path)) if path.is_file() else None
                if match is not None:
                    assert claims.setdefault(path, (rule.name, match.table or rule.table)) == (
                        rule.name,
                        match.table or rule.table,
                    )
    owners = {}
    for rule, table in claims.values():
        assert owners.setdefault(table, rule) == rule
