"""Delimiters, quotes, escapes, blanks, footers, ragged rows and line ends."""

from support.odd_files import lands, refused

TWO = "ID=INTEGER NAME=STRING"
BOLTS = [(1, "Bolt"), (2, "Nut")]
CITIES = {
    "columns": "city=STRING country=STRING pop=INTEGER",
    "rows": [("Rome", "IT", 2800000), ("Oslo", "NO", 700000)],
}


def cities(delimiter):
    return f"city{delimiter}country{delimiter}pop\nRome{delimiter}IT{delimiter}2800000\nOslo{delimiter}NO{delimiter}700000\n"


DELIMITERS = [
    lands("semicolons", cities(";"), **CITIES),
    lands("tabs", cities("\t"), **CITIES),
    lands("bars", cities("|"), **CITIES),
    refused("colons", cities(":"), says="a single column", hint="--delimiter", **CITIES),
    refused("tildes", cities("~"), says="a single column", hint="--delimiter", **CITIES),
    refused("carets", cities("^"), says="a single column", hint="--delimiter", **CITIES),
    refused("number signs", cities("#"), says="a single column", hint="--delimiter", **CITIES),
    refused("Hive's ^A", cities("\x01"), says="a single column", hint=True, **CITIES),
    refused("two characters", cities("@@"), says="a single column", hint="--delimiter", **CITIES),
    lands("colons, given", cities(":"), "--delimiter :", **CITIES),
    lands("two characters, given", cities("@@"), "--delimiter @@", **CITIES),
    lands("two bars, given", cities("||"), "--delimiter '||'", **CITIES),
    lands("a word, given", cities("<sep>"), "--delimiter '<sep>'", **CITIES),
    lands("a comma and a blank, given", cities(", "), "--delimiter ', '", **CITIES),
    lands("a section sign, given", cities("§"), "--delimiter §", **CITIES),
    lands("blanks, given", cities(" "), "--delimiter space", **CITIES),
    lands("tabs, given as an escape", cities("\t"), r"--delimiter '\t'", **CITIES),
    lands("a unit separator, given as an escape", cities("\x1f"), r"--delimiter '\x1f'", **CITIES),
    lands(
        "tabs beside commas in a .tsv file",
        "A\tB,C,D\n1\t2\n",
        name="input.tsv",
        columns="A=INTEGER B,C,D=INTEGER",
        rows=[(1, 2)],
    ),
    lands(
        "the delimiter of a part of a name does not count",
        '"a;b;c",d\n1,2\n',
        columns={"a;b;c": "INTEGER", "d": "INTEGER"},
        rows=[(1, 2)],
    ),
    lands(
        "several characters, quoted where they are part of a value",
        'ID@@NAME\n1@@"a@@b"\n2@@c@d\n3@@"e ""f"" g"\n',
        "--delimiter @@",
        columns=TWO,
        rows=[(1, "a@@b"), (2, "c@d"), (3, 'e "f" g')],
    ),
    lands(
        "several characters, the first of them at the end of a value",
        "ID||NAME||X\n1||a|||b\n",
        "--delimiter '||'",
        columns="ID=INTEGER NAME=STRING X=STRING",
        rows=[(1, "a", "|b")],
    ),
    refused(
        "commas in names and numbers, two delimiters fit",
        "Belegnr;Menge, ST;Betrag, EUR\n4711;1,5;2,75\n4712;3,0;10,00\n",
        says="delimiter",
        hint="--delimiter",
        columns={"Belegnr": "INTEGER", "Menge, ST": "STRING", "Betrag, EUR": "STRING"},
        rows=[(4711, "1,5", "2,75"), (4712, "3,0", "10,00")],
    ),
    refused(
        "commas in a name and in numbers, a tie",
        "Betrag (EUR, netto);Datum\n100,50;2024-01-31\n7,25;2024-02-29\n",
        says="delimiter",
        hint="--delimiter",
        columns={"Betrag (EUR, netto)": "STRING", "Datum": "DATETIME"},
        rows=[("100,50", "2024-01-31"), ("7,25", "2024-02-29")],
    ),
    refused("one name over rows of two fields", "DATA\na;b\nc;d\ne;f\n", says="line 1"),
    refused(
        "columns aligned with blanks",
        "ID  NAME   QTY\n1   Bolt   20\n2   Nut    30\n",
        says=("a single column", "blanks"),
    ),
    lands("a single column", "CITY\nRome\nOslo\n", columns="CITY=STRING", rows=[("Rome",), ("Oslo",)]),
    lands(
        "one column, a word of two",
        "City name\nNew York\nOslo\n",
        columns={"City name": "STRING"},
        rows=[("New York",), ("Oslo",)],
    ),
    lands(
        "one column, quoted texts with commas",
        'NOTE\n"a, b"\n"c, d"\n',
        columns="NOTE=STRING",
        rows=[("a, b",), ("c, d",)],
    ),
    refused("one column, texts with commas", "NOTE\nhello, world\nfoo, bar\n", says="line"),
    lands(
        "one column, times",
        "TIME\n10:00:00\n11:30:00\n",
        "--delimiter ,",
        columns="TIME=STRING",
        rows=[("10:00:00",), ("11:30:00",)],
    ),
]

QUOTES = [
    lands("doubled quotes", 'ID,NAME\n1,"a ""b"" c"\n2,""""\n', columns=TWO, rows=[(1, 'a "b" c'), (2, '"')]),
    lands("line ends in quotes", 'ID,NAME\n1,"a\nb"\n2,"c\r\nd"\n', columns=TWO, rows=[(1, "a\nb"), (2, "c\r\nd")]),
    lands("delimiters in quotes", 'ID,NAME\n1,"a,b"\n2,","\n', columns=TWO, rows=[(1, "a,b"), (2, ",")]),
    lands("inches", 'ID,NAME\n1,5" pipe\n2,3"\n', columns=TWO, rows=[(1, '5" pipe'), (2, '3"')]),
    lands("quoted and empty", 'ID,NAME\n1,""\n2,\n', columns=TWO, rows=[(1, ""), (2, None)]),
    lands("numbers in quotes", '"ID","NAME"\n"1","Bolt"\n"2","Nut"\n', columns=TWO, rows=BOLTS),
    lands(
        "a delimiter lost before a quote",
        'A,B,C\n1"x,y",3\n',
        columns="A=STRING B=STRING C=INTEGER",
        rows=[('1"x', 'y"', 3)],
    ),
    refused("text after a closing quote", 'ID,NAME\n1,a\n2,"b"c\n', says=("input.csv", "line 3", "closing quote")),
    refused("a quote that is never closed", 'ID,NAME\n1,a\n2,"b\n3,c\n', says=("line 3", "never closed")),
    refused(
        "values in single quotes",
        "ID,NAME\n1,'Bolt'\n2,'Nut'\n",
        says="single quotes",
        hint="--quote",
        columns=TWO,
        rows=BOLTS,
    ),
    lands(
        "single quotes, given",
        "ID,NAME\n1,'a,b'\n2,'it''s'\n3,\"c\"\n",
        '--quote "\'"',
        columns=TWO,
        rows=[(1, "a,b"), (2, "it's"), (3, '"c"')],
    ),
    lands("apostrophes", "ID,NAME\n1,'tis\n2,it's\n", columns=TWO, rows=[(1, "'tis"), (2, "it's")]),
    lands("no quotes", 'ID,NAME\n1,"a\n2,"b"\n', "--quote none", columns=TWO, rows=[(1, '"a'), (2, '"b"')]),
    refused(
        "escaped quotes",
        'ID,NAME\n1,"a \\"b\\" c"\n2,"d"\n',
        says="line 2",
        hint="--escape",
        columns=TWO,
        rows=[(1, 'a "b" c'), (2, "d")],
    ),
    lands(
        "escaped delimiters, quotes, line ends and escapes",
        'ID,NAME\n1,a\\,b\n2,\\"c\n3,"d\\"e"\n4,f\\\ng\n5,h\\\\i\n6,"j\\\\"\n',
        "--escape '\\'",
        columns=TWO,
        rows=[(1, "a,b"), (2, '"c'), (3, 'd"e'), (4, "f\ng"), (5, "h\\i"), (6, "j\\")],
    ),
    lands(
        "an escape before any other character",
        "ID,NAME\n1,a\\bc\n2,\\x\n",
        "--escape '\\'",
        columns=TWO,
        rows=[(1, "abc"), (2, "x")],
    ),
    refused("an escape at the end", "ID,NAME\n1,a\n2,b\\", "--escape '\\'", says="escape"),
    lands(
        "backslashes without a meaning",
        'ID,NAME\n1,C:\\temp\\\n2,"\\\\server\\x"\n',
        columns=TWO,
        rows=[(1, "C:\\temp\\"), (2, "\\\\server\\x")],
    ),
    lands(
        "a question mark as escape and a bar as quote",
        "ID,NAME\n1,|a,b|\n2,c?,d\n",
        "--quote '|' --escape '?'",
        columns=TWO,
        rows=[(1, "a,b"), (2, "c,d")],
    ),
]

BLANKS = [
    refused(
        "a blank before each opening quote",
        'ID, NAME, PRICE\n1, "Bolt", "2.50"\n2, "Nut", "0.75"\n',
        says="quote",
        hint="--trim",
        columns="ID=INTEGER NAME=STRING PRICE=FLOAT",
        rows=[(1, "Bolt", 2.5), (2, "Nut", 0.75)],
    ),
    lands(
        "blanks outside of quotes, trimmed",
        'ID,NAME\n1,"a"  \n2,  "b"\n3,\t"c"\t\n',
        "--trim",
        columns=TWO,
        rows=[(1, "a"), (2, "b"), (3, "c")],
    ),
    lands(
        "blanks inside of quotes are part of the value",
        'ID,NAME\n1,"  a "\n2,  b \n',
        "--trim",
        columns=TWO,
        rows=[(1, "  a "), (2, "b")],
    ),
    lands("blanks around values", "ID,NAME\n1, a \n2,b\t\n", columns=TWO, rows=[(1, " a "), (2, "b\t")]),
    lands(
        "numbers padded with blanks",
        "ID,QTY\n 1,   5\n 2,  60\n",
        columns="ID=STRING QTY=STRING",
        rows=[(" 1", "   5"), (" 2", "  60")],
    ),
    lands(
        "numbers padded with blanks, trimmed",
        "ID,QTY\n 1,   5\n 2,  60\n",
        "--trim",
        columns="ID=INTEGER QTY=INTEGER",
        rows=[(1, 5), (2, 60)],
    ),
    lands(
        "no-break and zero-width blanks, trimmed",
        "ID,NAME\n\u00a01,a\u00a0\n2\u200b,\ufeffb\u200b\n",
        "--trim",
        columns=TWO,
        rows=[(1, "a"), (2, "b")],
    ),
    lands(
        "a field of blanks, trimmed",
        'ID,NAME\n1,   \n2,"   "\n3,\u00a0\n',
        "--trim",
        columns=TWO,
        rows=[(1, None), (2, "   "), (3, None)],
    ),
    lands("blanks inside a value, trimmed", "ID,NAME\n1, a  b \n", "--trim", columns=TWO, rows=[(1, "a  b")]),
    lands(
        "tabs as delimiters, trimmed",
        "ID\tNAME\tX\n1\t  a \t\n2\t\t b\n",
        "--trim",
        columns="ID=INTEGER NAME=STRING X=STRING",
        rows=[(1, "a", None), (2, None, "b")],
    ),
]

ROWS = [
    refused(
        "a field too many", "ID,NAME\n1,a\n2,b,c\n3,d\n", says=("input.csv", "line 3", "expected 2 fields, found 3")
    ),
    refused("a field too few", "ID,NAME,X\n1,a,b\n2,c\n3,d,e\n", says=("line 3", "expected 3 fields, found 2")),
    refused(
        "two characters, and a field too many",
        "ID@@NAME\n1@@a\n2@@b@@c\n",
        "--delimiter @@",
        says=("line 3", "expected 2 fields, found 3"),
    ),
    refused(
        "two characters, and a name too few",
        "ID@@\n1@@a\n2@@b\n",
        "--delimiter @@",
        says=("line 1", "column 2"),
        hint="--nameless",
        columns="ID=INTEGER column_2=STRING",
        rows=[(1, "a"), (2, "b")],
    ),
    refused(
        "a total at the end",
        "ID;QTY\n1;5\n2;6\nTotal of 2 rows\n",
        says=("line 4", "expected 2 fields, found 1"),
        hint="--skip-footer",
        columns="ID=INTEGER QTY=INTEGER",
        rows=[(1, 5), (2, 6)],
    ),
    lands(
        "two lines at the end, skipped",
        'ID;QTY\n1;5\n2;6\nTotal;11\nprinted by "x\n',
        "--skip-footer 2",
        columns="ID=INTEGER QTY=INTEGER",
        rows=[(1, 5), (2, 6)],
    ),
    lands(
        "a line without an end at the end, skipped",
        "ID;QTY\n1;5\n2;6\nTotal",
        "--skip-footer 1",
        columns="ID=INTEGER QTY=INTEGER",
        rows=[(1, 5), (2, 6)],
    ),
    refused("nothing but lines that are skipped", "ID;QTY\n1;5\n", "--skip-footer 1", says="no rows"),
    lands("empty lines between rows", "ID,NAME\n\n1,Bolt\n\n\n2,Nut\n\n", columns=TWO, rows=BOLTS),
    lands("an empty line in a table of one column", "ID\n1\n\n2\n", columns="ID=INTEGER", rows=[(1,), (None,), (2,)]),
    refused("a line of blanks", "ID,NAME\n1,Bolt\n  \n2,Nut\n", says=("line 3", "expected 2 fields, found 1")),
    lands(
        "a row of delimiters", "ID,NAME\n1,Bolt\n,\n2,Nut\n", columns=TWO, rows=[(1, "Bolt"), (None, None), (2, "Nut")]
    ),
    lands("no line end after the last row", "ID,NAME\n1,Bolt\n2,Nut", columns=TWO, rows=BOLTS),
    lands("CRLF", "ID,NAME\r\n1,Bolt\r\n2,Nut\r\n", columns=TWO, rows=BOLTS),
    lands("CR", "ID,NAME\r1,Bolt\r2,Nut\r", columns=TWO, rows=BOLTS),
    lands("LF and CRLF mixed", "ID,NAME\r\n1,Bolt\n2,Nut\r\n", columns=TWO, rows=BOLTS),
    refused("a lone CR in a file with LF", "ID,NAME\n1,Bo\rlt\n2,Nut\n", says=("line 2", "carriage return")),
    lands("two line ends after the last row", "ID,NAME\n1,Bolt\n2,Nut\n\n", columns=TWO, rows=BOLTS),
    lands(
        "other characters that end a line elsewhere",
        "ID,NAME\n1,a\u2028b\n2,c\u0085d\n3,e\x0bf\x0cg\n",
        columns=TWO,
        rows=[(1, "a\u2028b"), (2, "c\u0085d"), (3, "e\x0bf\x0cg")],
    ),
    refused("the end-of-file character of DOS", "ID,NAME\n1,Bolt\n\x1a", says="line 3"),
    refused(
        "columns shifted by an unquoted delimiter",
        "ID,NAME,QTY\n1,Bolt, long,5\n2,Nut,6\n",
        says=("line 2", "expected 3 fields, found 4"),
    ),
    refused(
        "a delimiter at the end of rows but not of the header line",
        "ID;QTY\n1;5;\n2;6;\n",
        says=("line 2", "expected 2 fields, found 3"),
        hint="--trailing-delimiter",
        columns="ID=INTEGER QTY=INTEGER",
        rows=[(1, 5), (2, 6)],
    ),
]

ODD_FILES = [*DELIMITERS, *QUOTES, *BLANKS, *ROWS]
