"""Encodings, byte order marks, NULs, compression, files of another kind than their name says, and names of files."""

import bz2
import gzip
import io
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import feather
from support.odd_files import lands, refused

TEXT = "ID;NAME\n1;Müller\n2;Nuß\n"
LANDED = {"columns": "ID=INTEGER NAME=STRING", "rows": [(1, "Müller"), (2, "Nuß")]}
TABLE = pa.table({"ID": [1, 2], "NAME": ["Müller", "Nuß"]})


def parquet():
    file = io.BytesIO()
    pq.write_table(TABLE, file)
    return file.getvalue()


def arrow(**options):
    file = io.BytesIO()
    feather.write_feather(TABLE, file, compression="uncompressed", **options)
    return file.getvalue()


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), content)
    return file.getvalue()


XLSX = zipped(**{"[Content_Types]_xml": "<x/>", "xl__workbook_xml": "<x/>"})

ENCODINGS = [
    lands("UTF-8 with a byte order mark", TEXT.encode("utf-8-sig"), **LANDED),
    lands(
        "a byte order mark before a quoted name",
        b'\xef\xbb\xbf"ID";"NAME"\n1;a\n',
        columns="ID=INTEGER NAME=STRING",
        rows=[(1, "a")],
    ),
    lands("UTF-16 with a byte order mark", TEXT.encode("utf-16"), **LANDED),
    lands("UTF-16, big end first", b"\xfe\xff" + TEXT.encode("utf-16-be"), **LANDED),
    lands("UTF-32 with a byte order mark", TEXT.encode("utf-32"), **LANDED),
    refused("UTF-16 without a byte order mark", TEXT.encode("utf-16-le"), says="UTF-16", hint="--encoding", **LANDED),
    refused("UTF-16 without one, big end first", TEXT.encode("utf-16-be"), says="UTF-16", hint="--encoding", **LANDED),
    refused("UTF-32 without a byte order mark", TEXT.encode("utf-32-le"), says="UTF-32", hint="--encoding", **LANDED),
    lands("UTF-16 without a byte order mark, said so", TEXT.encode("utf-16-le"), "--encoding utf-16-le", **LANDED),
    lands("the byte order mark wins over the setting", TEXT.encode("utf-8-sig"), "--encoding cp1252", **LANDED),
    refused("the encoding of Windows", TEXT.encode("cp1252"), says=("line 2", "UTF-8"), hint="--encoding", **LANDED),
    refused(
        "the encoding of Windows in the header line",
        "STÜCK;NAME\n1;a\n".encode("cp1252"),
        says=("line 1", "UTF-8"),
        hint="--encoding",
        columns="STÜCK=INTEGER NAME=STRING",
        rows=[(1, "a")],
    ),
    lands(
        "a euro sign of Windows",
        "ID;NAME\n1;5 €\n".encode("cp1252"),
        "--encoding cp1252",
        columns="ID=INTEGER NAME=STRING",
        rows=[(1, "5 €")],
    ),
    refused(
        "a byte that the encoding does not have",
        b"ID;NAME\n1;a\n2;\x81\n",
        "--encoding cp1252",
        says=("line 3", "cp1252"),
    ),
    refused("UTF-8 cut inside a character", b"ID;NAME\n1;a\n2;\xc3\n3;c\n", says=("line 3", "UTF-8")),
    refused("half of a pair of UTF-16 in UTF-8", b"ID;NAME\n1;a\n2;\xed\xa0\x80\n", says=("line 3", "UTF-8")),
    refused("UTF-16 cut inside a character", "ID;NAME\n1;a\n".encode("utf-16") + b"\x31", says="input.csv"),
    lands(
        "Japanese, with bytes that are bars and backslashes",
        "ID|NAME\n1|ポソ表\n2|能\n".encode("shift_jis"),
        "--encoding shift_jis",
        columns="ID=INTEGER NAME=STRING",
        rows=[(1, "ポソ表"), (2, "能")],
    ),
    lands(
        "Chinese",
        "ID,NAME\n1,螺栓\n".encode("gb18030"),
        "--encoding gb18030",
        columns="ID=INTEGER NAME=STRING",
        rows=[(1, "螺栓")],
    ),
    lands("EBCDIC", TEXT.replace("\n", "\x85").encode("cp037"), "--encoding cp037", **LANDED),
    lands(
        "characters that are not in the basic plane, and combined ones",
        "ID,NAME\n1,😀\n2,e\u0301\n3,\u202bא\n",
        columns="ID=INTEGER NAME=STRING",
        rows=[(1, "😀"), (2, "e\u0301"), (3, "\u202bא")],
    ),
    lands(
        "control characters in values",
        "ID,NAME\n1,a\x01b\n2,\x7f\x1a\n",
        columns="ID=INTEGER NAME=STRING",
        rows=[(1, "a\x01b"), (2, "\x7f\x1a")],
    ),
    refused("an encoding that does not exist", TEXT, "--encoding utf8mb4", says="encoding", code=2),
]

NULS = [
    refused("a NUL in a value", 'ID,NAME\n1,Bolt\n2,"N\0t"\n', says=("line 3", "NUL")),
    refused("NULs after the last row", "ID,NAME\n1,Bolt\n2,Nut\n" + 40 * "\0", says="NUL"),
    refused("nothing but NULs", 100 * b"\0", says="NUL"),
    refused("a NUL in the header line", "ID\0,NAME\n1,a\n", says="NUL"),
]

CONTAINERS = [
    lands("gzip under .csv", gzip.compress(TEXT.encode()), **LANDED),
    lands("gzip of UTF-16 under .csv", gzip.compress(TEXT.encode("utf-16")), **LANDED),
    lands("gzip under .txt", gzip.compress(TEXT.encode()), name="input.txt", **LANDED),
    lands("two members of gzip", gzip.compress(TEXT[:15].encode()) + gzip.compress(TEXT[15:].encode()), **LANDED),
    lands("gzip on standard input", gzip.compress(TEXT.encode()), "--format csv", name="-", **LANDED),
    lands("text on standard input", TEXT, "--format csv", name="-", **LANDED),
    refused("gzip under .csv, cut", gzip.compress(TEXT.encode())[:-12], says=("input.csv", "gzip")),
    refused("text under .csv.gz", TEXT, name="input.csv.gz", says=("input.csv.gz", "gzip")),
    lands("bzip2", bz2.compress(TEXT.encode()), name="input.csv.bz2", **LANDED),
    refused("zip under .csv", zipped(input_csv=TEXT), says=("input.csv", "zip")),
    refused("a workbook of Excel under .csv", XLSX, says=("input.csv", "Excel")),
    refused("Parquet under .csv", parquet(), says=("input.csv", "Parquet"), hint="--format", **LANDED),
    refused("Arrow under .csv", arrow(), says=("input.csv", "Arrow"), hint="--format", **LANDED),
    refused(
        "text under .parquet", TEXT, name="input.parquet", says=("input.parquet", "Parquet"), hint="--format", **LANDED
    ),
    refused("text under .arrow", TEXT, name="input.arrow", says=("input.arrow", "Arrow"), hint="--format", **LANDED),
    refused("a name without a suffix", TEXT, name="input", says="format", hint="--format", code=2, **LANDED),
    refused(
        "a name with a date as suffix", TEXT, name="vbak.20240131", says="format", hint="--format", code=2, **LANDED
    ),
    lands("the name says nothing, the flag does", TEXT, "--format csv", name="input.dat", **LANDED),
    refused(
        "a file beside its compressed copy",
        {"a.csv": TEXT, "a.csv.gz": gzip.compress(TEXT.encode())},
        says=("a.csv", "a.csv.gz"),
        code=2,
    ),
    lands("a name with blanks and quotes", TEXT, name='it\'s a "file".csv', **LANDED),
    lands("a name that is not UTF-8", TEXT, name="Auftr\udce4ge.csv", **LANDED),
]

ODD_FILES = [*ENCODINGS, *NULS, *CONTAINERS]
