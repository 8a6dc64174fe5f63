"""Lists of SAP, files of Excel and Hive, pages and documents that are no tables."""

from support.odd_files import lands, refused

RULER = "-" * 33 + "\n"
SAP_HEADER = f"{RULER}|MANDT|EBELN     |NETWR    |WAERS|\n{RULER}"
SAP_ROWS = "|100  |4500000001|   100.00|EUR  |\n|100  |4500000002|    50.00-|EUR  |\n"
SAP_LIST = f"{SAP_HEADER}{SAP_ROWS}{RULER}"
SAP_COLUMNS = "MANDT=INTEGER EBELN=INTEGER NETWR=FLOAT WAERS=STRING"
SAP_LANDED = [(100, 4500000001, 100.0, "EUR"), (100, 4500000002, -50.0, "EUR")]
SAP_TEXTS = {
    "columns": "MANDT=INTEGER EBELN=INTEGER NETWR=STRING WAERS=STRING",
    "rows": [(100, 4500000001, "100.00", "EUR"), (100, 4500000002, "50.00-", "EUR")],
}

SAP = [
    refused("a list of SAP", SAP_LIST, name="input.txt", says="line 1", hint="--dialect", **SAP_TEXTS),
    lands("a list of SAP, said so", SAP_LIST, "--dialect sap-list", name="input.txt", **SAP_TEXTS),
    lands(
        "a list of SAP and its numbers",
        SAP_LIST,
        "--dialect sap-list --locale sap",
        columns=SAP_COLUMNS,
        rows=SAP_LANDED,
    ),
    lands(
        "a list of SAP with a title",
        f"02.01.2024          Purchasing documents          1\n\n{SAP_LIST}",
        "--dialect sap-list --locale sap",
        columns=SAP_COLUMNS,
        rows=SAP_LANDED,
    ),
    lands(
        "a list of SAP with a total",
        f"{SAP_HEADER}{SAP_ROWS}{RULER}|*    |          |    50.00|EUR  |\n{RULER}",
        "--dialect sap-list --locale sap",
        columns=SAP_COLUMNS,
        rows=SAP_LANDED,
    ),
    lands(
        "a list of SAP with quotes and CRLF",
        '-------------\r\n|MATNR|MAKTX |\r\n-------------\r\n|0815 |5" tap|\r\n|0816 |"x"   |\r\n-------------\r\n',
        "--dialect sap-list",
        columns="MATNR=STRING MAKTX=STRING",
        rows=[("0815", '5" tap'), ("0816", '"x"')],
    ),
    lands(
        "a list of SAP with rulers between rows and empty cells",
        "-----------\n|A  |B    |\n|---------|\n|1  |     |\n|---------|\n|2  |x y  |\n-----------\n",
        "--dialect sap-list",
        columns="A=INTEGER B=STRING",
        rows=[(1, None), (2, "x y")],
    ),
    refused(
        "a list of SAP with a bar in a value",
        "---------\n|A  |B  |\n---------\n|1  |x|y|\n---------\n",
        "--dialect sap-list",
        says="line 4",
    ),
    lands(
        "a list of SAP and its dates",
        "------------------------\n|ERDAT   |AEDAT   |LABST|\n------------------------\n"
        "|20240131|00000000|  5- |\n|20240229|20240301|  6  |\n------------------------\n",
        "--dialect sap-list --locale sap",
        columns="ERDAT=DATETIME AEDAT=DATETIME LABST=INTEGER",
        rows=[("2024-01-31", None, -5), ("2024-02-29", "2024-03-01", 6)],
    ),
]

EXCEL = [
    refused(
        "a line with the delimiter, of Excel",
        "sep=;\r\nID;NAME\r\n1;a\r\n2;b\r\n",
        says="sep=",
        hint="--dialect",
        columns="ID=INTEGER NAME=STRING",
        rows=[(1, "a"), (2, "b")],
    ),
    lands(
        "a line with the delimiter, of Excel, said so",
        "sep=|\r\nID|NAME, X\r\n1|a\r\n",
        "--dialect excel",
        columns={"ID": "INTEGER", "NAME, X": "STRING"},
        rows=[(1, "a")],
    ),
    lands(
        "Excel without a line with the delimiter",
        "ID;NAME\r\n1;a\r\n",
        "--dialect excel",
        columns="ID=INTEGER NAME=STRING",
        rows=[(1, "a")],
    ),
    lands(
        "a line with the delimiter in UTF-16",
        "sep=\t\r\nID\tNAME\r\n1\tä\r\n".encode("utf-16"),
        "--dialect excel",
        columns="ID=INTEGER NAME=STRING",
        rows=[(1, "ä")],
    ),
    lands(
        "empty columns and delimiters at the end, of Excel",
        "ID;NAME;;\r\n1;a;;\r\n2;b;;\r\n",
        "--dialect excel",
        columns="ID=INTEGER NAME=STRING",
        rows=[(1, "a"), (2, "b")],
    ),
]

HIVE = [
    lands(
        "a file of Hive",
        '1\x01a\x012.5\n2\x01\\N\x01\\N\n3\x01"b\x010.5\n',
        "--dialect hive --names ID,NAME,AMT",
        name="000000_0.txt",
        columns="ID=INTEGER NAME=STRING AMT=FLOAT",
        rows=[(1, "a", 2.5), (2, None, None), (3, '"b', 0.5)],
    ),
    lands(
        "a file of Hive with a header line",
        "ID\x01NAME\n1\x01a,b\n2\x01\\N\n",
        "--dialect hive",
        columns="ID=INTEGER NAME=STRING",
        rows=[(1, "a,b"), (2, None)],
    ),
    lands(
        "a file of Hive with tabs",
        "ID\tNAME\n1\t\\N\n",
        r"--dialect hive --delimiter '\t'",
        columns="ID=INTEGER NAME=STRING",
        rows=[(1, None)],
    ),
    lands(
        "an export of MySQL",
        "ID\tNAME\tD\n1\t\\N\t0000-00-00\n2\ta\\\tb\t2024-01-31\n3\tc\\\\d\t2024-02-29\n",
        r"--null '\N' --escape '\' --quote none --zero-date-null",
        name="input.tsv",
        columns="ID=INTEGER NAME=STRING D=DATETIME",
        rows=[(1, None, None), (2, "a\tb", "2024-01-31"), (3, "c\\d", "2024-02-29")],
    ),
]

PAGE = "<html>\n<head><title>Sign in</title></head>\n<body>\n<p>Your session, it seems, has expired.</p>\n</body>\n</html>\n"
NO_TABLES = [
    refused("a web page", f"<!DOCTYPE html>\n{PAGE}", says=("line 1", "web page")),
    refused("a web page, small letters", f"<!doctype html>{PAGE}", says="web page"),
    refused("a web page after empty lines", f"\r\n\r\n<!DOCTYPE html>\n{PAGE}", says="web page"),
    refused("a web page with a byte order mark", f"\ufeff<!DOCTYPE html>\n{PAGE}", says="web page"),
    refused("a web page as it begins without a type", PAGE, says="web page"),
    refused(
        "an XML document",
        '<?xml version="1.0"?>\n<error>\n<code>401</code>\n</error>\n',
        says=("line 1", "XML"),
    ),
    refused("an error document", '{"error":"unauthorized","status":401}\n', says=("line 1", "JSON")),
    refused(
        "an error document on several lines", '{\n  "error": "unauthorized",\n  "status": 401\n}\n', says="input.csv"
    ),
    refused("rows of JSON", '{"ID":1,"NAME":"a"}\n{"ID":2,"NAME":"b"}\n', says="JSON"),
    lands(
        "names in angle brackets",
        "<ID>,<NAME>\n1,a\n",
        columns="<ID>=INTEGER <NAME>=STRING",
        rows=[(1, "a")],
    ),
    lands("a name in braces", '{ID},NAME\n1,"{""a"":1}"\n', columns="{ID}=INTEGER NAME=STRING", rows=[(1, '{"a":1}')]),
]

ODD_FILES = [*SAP, *EXCEL, *HIVE, *NO_TABLES]
