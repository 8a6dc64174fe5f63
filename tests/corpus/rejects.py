"""Rows that are left out because the user allows it, and what always refuses."""

from support.odd_files import lands, refused

SHORT_ROW = "ID,NAME\n1,Bolt\n2\n3,Nut\n"
LANDED = {"columns": "ID=INTEGER NAME=STRING", "rows": [(1, "Bolt"), (3, "Nut")], "rejects": 1}

ODD_FILES = [
    lands("a field too few, left out", SHORT_ROW, "--max-rejects 1", **LANDED),
    lands("a field too many, left out", "ID,NAME\n1,Bolt\n2,a,b\n3,Nut\n", "--max-rejects 1", **LANDED),
    lands("a third of the rows, left out", SHORT_ROW, "--max-rejects 40%", **LANDED),
    refused("more than a fifth of the rows", SHORT_ROW, "--max-rejects 20%", says="expected 2 fields, found 1"),
    refused("two rows, one is allowed", "ID,NAME\n1\n2\n3,Nut\n", "--max-rejects 1", says=("line 2", "2 of 3 rows")),
    refused("no row would be left", "ID,NAME\n1\n2\n", "--max-rejects 100%", says="no row is left"),
    lands(
        "a text in a column that must be INTEGER, left out",
        "ID,NAME\n1,Bolt\nx,a\n3,Nut\n",
        "--max-rejects 1 --column ID=INTEGER",
        **LANDED,
    ),
    lands(
        "a text in a column that need not be INTEGER, loaded",
        "ID,NAME\n1,Bolt\nx,a\n3,Nut\n",
        "--max-rejects 1",
        columns="ID=STRING NAME=STRING",
        rows=[("1", "Bolt"), ("x", "a"), ("3", "Nut")],
    ),
    lands(
        "a text that is too long, left out",
        "ID,NAME\n1,Bolt\n2,Washer\n3,Nut\n",
        "--max-rejects 1 --column NAME=STRING(4)",
        **LANDED,
    ),
    lands(
        "a key without a value, left out",
        "ID,NAME\n1,Bolt\n,a\n3,Nut\n",
        "--max-rejects 1 --mode upsert --key ID",
        **LANDED,
    ),
    lands(
        "a total at the end, left out",
        "ID;NAME\n1;Bolt\n3;Nut\nTotal: 2 rows\n",
        "--max-rejects 1",
        **LANDED,
    ),
    refused(
        "a quote that is never closed, whatever is allowed", 'ID,NAME\n1,Bolt\n2,"x\n', "--max-rejects 5", says="line 3"
    ),
    refused("no UTF-8, whatever is allowed", b"ID,NAME\n1,Bolt\n2,\xff\n", "--max-rejects 5", says="line 3"),
]
