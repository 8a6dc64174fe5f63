"""Small files after public reports of the kind (`integration/cases/`)."""

from pathlib import Path

from support.odd_files import lands, refused

FOLDER = Path(__file__).parents[1] / "integration" / "cases"


def case(name):
    """Return the files of a case. `config.toml` is not pushed."""
    return {file.name: file.read_bytes() for file in sorted((FOLDER / name).iterdir())}


BELEGE = {
    "columns": {"Belegnr": "INTEGER", "Menge, ST": "STRING", "Betrag, EUR": "STRING"},
    "rows": [(4711, "1,5", "2,75"), (4712, "3,0", "10,00")],
}

ODD_FILES = [
    lands(
        "amounts of 16 digits",
        case("amount-16-digits"),
        columns="BELNR=STRING WRBTR=STRING",
        rows=[("A1", "99999999999999.99"), ("A2", "90071992547409.93"), ("A3", "1.00")],
    ),
    lands(
        "bins that look like exponents",
        case("bin-location-1E-02"),
        columns="LGPLA=STRING QTY=INTEGER",
        rows=[("1E-02", 5), ("2E-03", 7), ("1E-03", 9)],
    ),
    refused(
        "colons",
        case("colon-delimiter"),
        says="':'",
        hint="--delimiter",
        columns="city=STRING country=STRING pop=INTEGER",
        rows=[("Rome", "IT", 2800000), ("Oslo", "NO", 700000)],
    ),
    refused(
        "decimal commas in a column that must be FLOAT",
        case("decimal-comma"),
        "--column DMBTR=FLOAT",
        says=("row 1 (line 2), column DMBTR", "decimal"),
        hint="--decimal",
        columns="BELNR=INTEGER DMBTR=FLOAT",
        rows=[(1, 100.0), (2, 1050.25)],
    ),
    refused(
        "Hive's ^A",
        case("delim-ctrl-a-hive"),
        says=r"'\x01'",
        hint=True,
        columns="ID=INTEGER NAME=STRING AMT=FLOAT",
        rows=[(1, "a", 2.5), (2, "b", 3.5)],
    ),
    refused(
        "two delimiters fit",
        case("delim-header-comma-decimal-comma"),
        says="delimiter",
        hint="--delimiter",
        **BELEGE,
    ),
    lands(
        "two delimiters fit, one is set",
        case("delim-header-comma-decimal-comma"),
        "--config config.toml",
        **BELEGE,
    ),
    refused(
        "two delimiters in the header line, a tie",
        case("delim-header-tie"),
        says="delimiter",
        hint="--delimiter",
        columns={"Betrag (EUR, netto)": "STRING", "Datum": "DATETIME"},
        rows=[("100,50", "2024-01-31"), ("7,25", "2024-02-29")],
    ),
    refused(
        "empty columns of Excel",
        case("excel-empty-columns"),
        says="line 1",
        hint="--empty-columns",
        columns="ID=INTEGER NAME=STRING",
        rows=[(1, "Bolt"), (2, "Nut")],
    ),
    lands(
        "points between thousands",
        case("german-thousands-dot"),
        columns="MATNR=STRING LABST=STRING",
        rows=[("A", "1.000"), ("B", "2.500"), ("C", "950")],
        notes=("LABST", "--thousands ."),
    ),
    refused("a web page", case("html-login-page-as-csv"), says=("line 1", "web page")),
    refused(
        "a delimiter of two characters",
        case("multichar-delimiter-word"),
        says="'@@'",
        hint="--delimiter",
        columns="ID=INTEGER NAME=STRING",
        rows=[(1, "Bolt"), (2, "Nut")],
    ),
    refused(
        "no header line",
        case("no-header-file"),
        says="line 1",
        hint="--no-header",
        columns="column_1=INTEGER column_2=STRING column_3=FLOAT",
        rows=[(4500000001, "00010", 100.0), (4500000002, "00020", 50.0), (4500000003, "00030", 75.0)],
    ),
    refused(
        "no header line, doubled values",
        case("no-header-refused-unclear"),
        says=("line 1", "looks like"),
        hint="--no-header",
        columns="column_1=INTEGER column_2=INTEGER column_3=INTEGER",
        rows=[(0, 0, 5), (1, 0, 7)],
    ),
    refused(
        "a title",
        case("preamble-title-semicolon"),
        says="line 2",
        hint="--skip-lines",
        columns="EBELN=INTEGER EBELP=STRING NETWR=FLOAT",
        rows=[(4500000001, "00010", 100.0), (4500000002, "00020", 5.25)],
    ),
    refused(
        "a list of SAP",
        case("sap-list-export"),
        says="line 1",
        hint="--dialect",
        columns="MANDT=INTEGER EBELN=INTEGER NETWR=STRING WAERS=STRING",
        rows=[(100, 4500000001, "100.00", "EUR"), (100, 4500000002, "50.00-", "EUR")],
    ),
    refused(
        "a line with the delimiter, of Excel",
        case("sep-line-excel"),
        says="sep=",
        hint="--dialect",
        columns="ID=INTEGER NAME=STRING",
        rows=[(1, "a")],
    ),
    refused(
        "single quotes",
        case("single-quoted"),
        says="single quotes",
        hint="--quote",
        columns="ID=INTEGER NAME=STRING",
        rows=[(1, "Bolt"), (2, "Nut")],
    ),
    refused("columns aligned with blanks", case("space-aligned"), says=("a single column", "blanks")),
    refused(
        "a blank before each quote",
        case("space-before-quote"),
        says="quote",
        hint="--trim",
        columns="ID=INTEGER NAME=STRING PRICE=FLOAT",
        rows=[(1, "Bolt", 2.5), (2, "Nut", 0.75)],
    ),
    refused(
        "a title as wide as the table",
        case("title-line-padded"),
        says="line 2",
        hint="--skip-lines",
        columns="ID=INTEGER NAME=STRING QTY=INTEGER",
        rows=[(1, "Bolt", 20)],
    ),
    refused(
        "a delimiter at the end of every line",
        case("trailing-delimiter-all"),
        says="line 1",
        hint="--trailing-delimiter",
        columns="EBELN=INTEGER EBELP=STRING",
        rows=[(4500000001, "00010")],
    ),
    refused(
        "seven digits of SQL Server",
        case("ts-datetime2-7-digits"),
        "--config config.toml",
        says=("row 1 (line 2), column TS", "microsecond"),
        hint="--subsecond",
        columns="ID=INTEGER TS=DATETIME",
        rows=[
            (1, "2024-01-01 10:00:00.123456"),
            (2, "2024-01-01 10:00:00.123456"),
            (3, "2024-01-01 10:00:00"),
        ],
    ),
]
