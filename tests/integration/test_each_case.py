"""Each kind of file that was reported as read wrongly has its input in `cases/`, and a test that names it."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
CASES = [
    "amount-16-digits",
    "bin-location-1E-02",
    "colon-delimiter",
    "column-name-escape-codes",
    "cut-upsert-longer-string",
    "decimal-comma",
    "delim-ctrl-a-hive",
    "delim-header-comma-decimal-comma",
    "delim-header-tie",
    "drift-append-empty-column",
    "drift-append-float-then-bigint",
    "drift-append-leading-zero",
    "drift-append-longer-string",
    "ebcdic-cp037-NEL",
    "excel-empty-columns",
    "fifo-process-substitution",
    "filename-non-utf8",
    "float-key-1-and-1.0",
    "german-thousands-dot",
    "header-trailing-space-two-files",
    "header-zero-width-space",
    "html-login-page-as-csv",
    "multichar-delimiter-word",
    "night-sap-delta",
    "no-header-file",
    "no-header-refused-unclear",
    "nul-in-a-cell",
    "parquet-and-frames",
    "preamble-title-semicolon",
    "same-file-two-spellings",
    "sap-list-export",
    "sep-line-excel",
    "single-quoted",
    "space-aligned",
    "space-before-quote",
    "title-line-padded",
    "trailing-delimiter-all",
    "ts-datetime2-7-digits",
    "utf16-config-no-bom-le",
    "version-trailing-zero",
]


@pytest.fixture(scope="module")
def tests():
    """The text of all tests that read cases."""
    files = [*FOLDER.glob("test_*.py"), FOLDER.parent / "corpus" / "cases.py"]
    return "\n".join(file.read_text(encoding="utf-8") for file in files if file.name != Path(__file__).name)


def test_there_are_no_other_cases():
    assert sorted(CASES) == sorted(folder.name for folder in (FOLDER / "cases").iterdir())


@pytest.mark.parametrize("name", CASES)
def test_a_case_has_its_input_and_a_test(name, tests):
    assert any((FOLDER / "cases" / name).iterdir())
    assert f'"{name}"' in tests
