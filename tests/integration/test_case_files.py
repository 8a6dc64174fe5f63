"""Small inputs after public reports about files (`cases/`), and their neighbours, through the command line: names, links, pipes, first bytes."""

import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import shutil
import sys
import threading
import unicodedata
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

UPSERT = ("--mode", "upsert", "--key")
ROWS = "ID,N\n1,a\n2,b\n"
LANDED = [(1, "a"), (2, "b")]


@pytest.fixture
def stdin(monkeypatch):
    """Return a function that makes bytes the standard input of the next command."""

    def set_stdin(data):
        file = io.BytesIO(data)
        file.name = "<stdin>"
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))

    return set_stdin


def save(cli, name, data):
    (cli.folder / name).write_bytes(data)
    return name


def parquet_bytes():
    file = io.BytesIO()
    pq.write_table(pa.table({"ID": [1, 2], "N": ["a", "b"]}), file)
    return file.getvalue()


def arrow_bytes():
    table = pa.table({"ID": [1, 2], "N": ["a", "b"]})
    file = io.BytesIO()
    with pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


def workbook_bytes():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("[Content_Types].xml", "<x/>")
        archive.writestr("xl/workbook.xml", "<x/>")
    return file.getvalue()


CONTENTS = {
    "csv": ROWS.encode(),
    "gzip": gzip.compress(ROWS.encode()),
    "utf-16": ROWS.encode("utf-16"),
    "parquet": parquet_bytes(),
    "arrow": arrow_bytes(),
    "workbook": workbook_bytes(),
    "workbook in gzip": gzip.compress(workbook_bytes()),
    "parquet in gzip": gzip.compress(parquet_bytes()),
    "old workbook": bytes.fromhex("d0cf11e0a1b11ae1") + bytes(504),
    "zip": b"PK\3\4" + bytes(40),
    "pdf": b"%PDF-1.7\n",
    "json": b'{"a": 1}',
    "zeros": bytes(40),
}
EMPTY = {
    "no bytes": b"",
    "gzip": gzip.compress(b""),
    "a byte order mark": b"\xef\xbb\xbf",
    "members of gzip": gzip.compress(b"") * 3,
    "bz2": bz2.compress(b""),
}


# --- utf16-config-no-bom-le


@pytest.mark.parametrize(("name", "family"), [("input.txt", "utf-16"), ("i32.txt", "utf-32")])
def test_wide_text_without_a_mark_names_its_encoding(case, name, family):
    cli = case("utf16-config-no-bom-le")
    refused = cli.refused(name)
    assert f"{family.upper()}-LE text without a byte order mark" in refused.error
    cli.loaded(name, *refused.suggestion("--encoding"))
    assert cli.rows() == [(1, "A")]


@pytest.mark.parametrize(("name", "family"), [("input.txt", "utf-16"), ("i32.txt", "utf-32")])
def test_wide_text_is_read_in_the_order_of_bytes_that_it_shows(case, name, family):
    cli = case("utf16-config-no-bom-le")
    cli.loaded(name, "--encoding", family)
    assert cli.rows() == [(1, "A")]
    swapped = (cli.folder / name).read_bytes().decode(f"{family}-le").encode(f"{family}-be")
    cli.loaded(save(cli, "swapped.txt", swapped), "--encoding", family)
    assert cli.rows() == [(1, "A")]


@pytest.mark.parametrize("family", ["utf-16", "utf-32"])
def test_a_mark_wins_over_every_encoding_that_is_named(cli, family):
    name = save(cli, "a.csv", ROWS.encode(family))
    for words in ((), ("--encoding", family), ("--encoding", "cp1252"), ("--encoding", f"{family}-be")):
        cli.loaded(name, *words)
        assert cli.rows() == LANDED


def test_wide_text_that_shows_no_order_asks_for_it(cli):
    name = save(cli, "a.csv", "编号\u3000名称".encode("utf-16-le"))
    refused = cli.refused(name, "--encoding", "utf-16")
    assert refused.suggestions == [["--encoding", "utf-16-le"], ["--encoding", "utf-16-be"]]


# --- nul-in-a-cell


def test_a_nul_in_a_cell_is_refused_at_its_own_line(case):
    cli = case("nul-in-a-cell")
    refused = cli.refused("input.csv")
    assert "input.csv, line 3: not text: it contains a NUL byte" in refused.error
    assert "UTF-16" not in refused.err


# --- ebcdic-cp037-NEL


@pytest.mark.parametrize("encoding", ["cp037", "cp500", "cp273", "cp1140"])
def test_lines_of_ebcdic_end_with_nel(case, encoding):
    cli = case("ebcdic-cp037-NEL")
    if encoding != "cp037":
        text = (cli.folder / "input.csv").read_bytes().decode("cp037")
        save(cli, "input.csv", text.encode(encoding))
    cli.loaded("input.csv", "--encoding", encoding)
    assert cli.rows() == LANDED


def test_ebcdic_is_recognized(case):
    cli = case("ebcdic-cp037-NEL")
    refused = cli.refused("input.csv")
    assert "EBCDIC text" in refused.error
    cli.loaded("input.csv", *refused.suggestion("cp037"))
    assert cli.rows() == LANDED


def test_nel_is_an_ordinary_character_in_other_encodings(cli):
    name = save(cli, "a.csv", "ID,N\n1,a\x85b\n".encode("latin-1"))
    cli.loaded(name, "--encoding", "latin-1")
    assert cli.rows() == [(1, "a\x85b")]


# --- First bytes


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.txt"])
def test_compressed_text_is_read_whatever_its_name_is(cli, compress, name):
    cli.loaded(save(cli, name, compress(ROWS.encode())))
    assert cli.rows() == LANDED


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_text_compressed_by_arrow_is_read_whatever_its_name_is(cli, codec):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(ROWS.encode())
    cli.loaded(save(cli, "a.csv", sink.getvalue().to_pybytes()))
    assert cli.rows() == LANDED


@pytest.mark.parametrize(
    ("name", "content", "kind", "remedy"),
    [
        ("a.csv", "workbook", "an Excel workbook", "save the sheet as CSV"),
        ("a.csv", "old workbook", "an Excel workbook of the old format", "save the sheet"),
        ("a.csv", "zip", "a zip archive", "unpack it first"),
        ("a.csv.gz", "workbook in gzip", "an Excel workbook", "save the sheet as CSV"),
        ("a.csv", "pdf", "a PDF document", "CSV"),
        ("a.parquet", "csv", "text", "--format csv"),
        ("a.arrow", "csv", "text", "--format csv"),
        ("a.parquet", "workbook", "an Excel workbook", "save the sheet as CSV"),
        ("a.parquet", "parquet in gzip", "compressed with gzip", "decompress it first"),
    ],
)  # fmt: skip
def test_a_file_of_another_kind_is_refused_by_its_true_kind(cli, name, content, kind, remedy):
    refused = cli.refused(save(cli, name, CONTENTS[content]))
    assert kind in refused.error
    assert remedy in refused.hint


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.arrow", "a.txt", "a.csv.gz"])
@pytest.mark.parametrize("content", ["csv", "parquet", "arrow"])
def test_a_wrong_suffix_is_put_right_by_the_flag_of_the_hint(cli, name, content):
    done = cli.push(save(cli, name, CONTENTS[content]))
    if done.code:
        assert done.code == 3
        if "the file is plain text" in done.error:
            assert name == "a.csv.gz"
            return
        cli.loaded(name, *done.suggestion("--format"))
    assert cli.rows() == LANDED


def test_text_whose_header_begins_like_another_format_is_text(cli):
    cli.loaded(cli.write("a.csv", "PAR1,PK\n1,2\n"))
    assert cli.rows() == [(1, 2)]


# --- Standard input, fifo-process-substitution


@contextlib.contextmanager
def piped(data):
    """Yield the path under which this process reads data from a pipe, as a shell's `<(...)` gives it."""
    read_end, write_end = os.pipe()

    def write():
        with open(write_end, "wb") as pipe:
            pipe.write(data)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield f"/dev/fd/{read_end}"
    finally:
        os.close(read_end)
        writer.join()


@contextlib.contextmanager
def fifo(path, data):
    """Make a FIFO that a thread writes data into, once it is opened."""
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(data,))
    writer.start()
    try:
        yield path.name
    finally:
        writer.join()


def spooled(cli):
    return [str(path) for path in cli.folder.rglob("spool/*")]


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_standard_input_may_be_compressed(cli, stdin, compress):
    stdin(compress(ROWS.encode()))
    cli.loaded("-", "--format", "csv")
    assert cli.rows() == LANDED
    assert not spooled(cli)


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_process_substitution_is_read_like_standard_input(case, compress):
    cli = case("fifo-process-substitution")
    with piped(compress((cli.folder / "input.csv").read_bytes())) as path:
        cli.loaded(path, "--format", "csv")
    assert cli.rows() == LANDED
    assert not spooled(cli)


@pytest.mark.parametrize("format_name", ["csv", "parquet", "arrow"])
def test_a_fifo_is_pushed_and_its_name_may_show_the_format(cli, format_name):
    content = CONTENTS[format_name]
    with fifo(cli.folder / f"rows.{format_name}", content) as name:
        cli.loaded(name)
    assert cli.rows() == LANDED
    with fifo(cli.folder / "rows", content) as name:
        cli.loaded(name, "--format", format_name)
    assert cli.rows() == LANDED


def test_a_redirected_file_is_read_under_the_name_of_standard_input(cli, monkeypatch):
    save(cli, "a.csv", ROWS.encode())
    before = os.dup(0)
    try:
        with open(cli.folder / "a.csv", "rb") as file:
            os.dup2(file.fileno(), 0)
        cli.loaded("/dev/stdin", "--format", "csv")
    finally:
        os.dup2(before, 0)
        os.close(before)
    assert cli.rows() == LANDED


def test_a_pipe_without_a_format_asks_for_it(cli):
    with piped(ROWS.encode()) as path:
        refused = cli.refused(path, code=2)
    assert ["--format", "csv"] in refused.suggestions


def test_an_error_in_a_pipe_names_the_pipe(cli, stdin):
    with piped(b"A,B\n1,2\n3\n") as path:
        assert f"{path}, line 3: " in cli.refused(path, "--format", "csv").error
    stdin(b"A,B\n1,2\n3\n")
    assert "standard input, line 3: " in cli.refused("-", "--format", "csv").error


def test_a_pipe_is_no_part_of_a_larger_source(cli):
    cli.write("a.csv", ROWS)
    with piped(ROWS.encode()) as path:
        for words in ([path, "a.csv"], ["-", "a.csv"]):
            refused = cli.refused(*words, "--format", "csv", code=2)
            assert "cannot be one of several sources" in refused.error


def test_a_closed_descriptor_is_no_source(cli):
    assert "/dev/fd/9999: Bad file descriptor" in cli.refused("/dev/fd/9999", "--format", "csv").error


def test_a_device_is_no_file(cli):
    assert "not a file, but a device" in cli.refused("/dev/null", "--format", "csv").error


@pytest.mark.parametrize("kind", ["stdin", "pipe", "fifo"])
@pytest.mark.parametrize("content", ["csv", "gzip", "parquet", "arrow"])
def test_a_stream_is_planned_as_the_file_with_its_content_is(cli, stdin, monkeypatch, kind, content):
    format_name, content = content.replace("gzip", "csv"), CONTENTS[content]
    monkeypatch.setenv("TMPDIR", str(cli.folder / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (cli.folder / "tmp").mkdir()
    of_file = cli.run("plan", save(cli, f"a.{format_name}", content), "--table", "T", "--json").json
    with contextlib.ExitStack() as stack:
        if kind == "stdin":
            stdin(content)
        name = {
            "stdin": lambda: "-",
            "pipe": lambda: stack.enter_context(piped(content)),
            "fifo": lambda: stack.enter_context(fifo(cli.folder / "fifo", content)),
        }[kind]()
        of_stream = cli.run("plan", name, "--format", format_name, "--table", "T", "--json")
    assert of_stream.code == 0, of_stream.err
    assert of_stream.json["files"] == ["standard input" if kind == "stdin" else name]
    assert of_stream.json | {"files": None} == of_file | {"files": None}
    assert list((cli.folder / "tmp").iterdir()) == []


def test_a_plan_of_a_stream_names_it_in_errors(cli, stdin):
    stdin(b"A,B\n1\n")
    refused = cli.run("plan", "-", "--format", "csv", "--table", "T")
    assert refused.code == 3
    assert refused.error.startswith("error: standard input, line 2: ")


# --- same-file-two-spellings


def link(cli, make, name):
    make(cli.folder / "input.csv", cli.folder / name)
    return name


@pytest.mark.parametrize(
    "other",
    [
        lambda cli: cli.folder / "input.csv",
        lambda _: "./input.csv",
        lambda cli: f"../{cli.folder.name}/input.csv",
        lambda cli: link(cli, lambda file, name: name.symlink_to(file), "link.csv"),
        lambda cli: link(cli, lambda file, name: name.hardlink_to(file), "hard.csv"),
    ],
    ids=["absolute", "dot", "parent", "symlink", "hard link"],
)
def test_one_file_by_two_names_is_refused_with_both(case, other):
    cli = case("same-file-two-spellings")
    name = other(cli)
    refused = cli.refused("input.csv", name, code=2)
    assert "named twice" in refused.error or ("input.csv" in refused.error and str(name) in refused.error)
    assert "loaded twice" in refused.hint


def test_a_folder_with_a_link_to_one_of_its_files_is_refused(cli):
    (cli.folder / "data").mkdir()
    cli.write("data/2024.csv", ROWS)
    (cli.folder / "data" / "latest.csv").symlink_to("2024.csv")
    refused = cli.refused("data", code=2)
    assert "data/2024.csv and data/latest.csv are the same file" in refused.error


def test_a_file_beside_its_compressed_self_is_refused(cli):
    cli.write("a.csv", ROWS)
    save(cli, "a.csv.gz", gzip.compress(ROWS.encode()))
    for words in (["a.csv", "a.csv.gz"], ["a.csv*"]):
        refused = cli.refused(*words, code=2)
        assert "a.csv and a.csv.gz have the same name" in refused.error


def test_two_files_with_the_same_content_are_two_files(cli):
    cli.loaded(cli.write("a.csv", ROWS), cli.write("b.csv", ROWS))
    assert len(cli.rows()) == 4


# --- filename-non-utf8


def non_utf8(cli):
    name = os.fsdecode(b"Auftr\xe4ge.csv")
    try:
        shutil.copy(cli.folder / "input.csv", cli.folder / name)
    except OSError:
        pytest.skip("this file system has only names that are UTF-8")
    return name


def test_a_file_whose_name_is_not_utf8_is_pushed_and_shown_with_escapes(case, monkeypatch):
    cli = case("filename-non-utf8")
    name = non_utf8(cli)
    receipt = cli.loaded(name)
    assert len(cli.rows()) == 2
    monkeypatch.setenv("PUSHENGINE_STATE_DIR", "out.duckdb.state")
    shown = cli.run("show", receipt["push_id"])
    assert r"Auftr\xe4ge.csv" in shown.out
    assert cli.run("show", receipt["push_id"], "--json").json["source"] == r"Auftr\xe4ge.csv"
    assert receipt["push_id"] in cli.run("history").out
    exported = cli.run("journal", "export")
    planned = next(fact for fact in map(json.loads, exported.out.splitlines()) if fact["kind"] == "push_planned")
    assert planned["body"]["source"] == [str(cli.folder / name)]  # reversible
    assert cli.run("journal", "check").code == 0


def test_a_refused_file_whose_name_is_not_utf8_is_in_the_history(case, monkeypatch):
    cli = case("filename-non-utf8")
    save(cli, "input.csv", b"A,B\n1\n")
    refused = cli.refused(non_utf8(cli))
    assert r"Auftr\xe4ge.csv, line 2" in refused.error
    monkeypatch.setenv("PUSHENGINE_STATE_DIR", "out.duckdb.state")
    shown = cli.run("show", "T", "--json").json
    assert (shown["state"], shown["source"]) == ("failed", r"Auftr\xe4ge.csv")


def test_a_plan_shows_such_a_name_with_escapes(case):
    cli = case("filename-non-utf8")
    planned = cli.run("plan", non_utf8(cli), "--table", "T")
    assert planned.code == 0
    assert r"Auftr\xe4ge.csv" in planned.out


def test_a_table_name_that_is_not_utf8_is_refused(case):
    cli = case("filename-non-utf8")
    refused = cli.refused("input.csv", table=os.fsdecode(b"T\xe4"), code=2)
    assert r"the table name 'T\xe4' is not UTF-8" in refused.error


# --- column-name-escape-codes, header-zero-width-space, header-trailing-space-two-files


def test_control_characters_of_a_header_never_reach_the_terminal(case):
    cli = case("column-name-escape-codes")
    refused = cli.refused("input.csv")
    assert "\x1b" not in refused.err
    assert r"\x1b[31mRED" in refused.err
    cli.write("one.csv", "ID,\x1b[31mRED\n1,2\n")
    for words in (["plan", "one.csv", "--table", "T"], ["push", "one.csv", "--table", "T", "--emulator", "o.duckdb"]):
        done = cli.run(*words)
        assert done.code == 0
        assert "\x1b" not in done.out + done.err


def test_an_invisible_character_in_a_name_is_shown_and_the_shown_name_works(case):
    cli = case("header-zero-width-space")
    refused = cli.refused("input.csv", *UPSERT, "ID")
    assert r"columns: '\u200bID', 'NAME'" in refused.hint
    cli.loaded("input.csv", *UPSERT, "\u200bID")


def test_blanks_at_the_ends_of_names_are_shown_in_quotes(case):
    cli = case("header-trailing-space-two-files")
    refused = cli.refused("input.1.csv", "input.2.csv")
    assert "lacks 'NAME' and adds 'NAME '" in refused.error
    assert refused.suggestions == [["--trim"]]


# --- Names in another Unicode form


NFC, NFD = "Größe", unicodedata.normalize("NFD", "Größe")


@pytest.mark.parametrize(("first", "second"), [(NFC, NFD), (NFD, NFC)])
def test_columns_are_the_same_however_their_accents_are_encoded(cli, first, second):
    assert first != second
    one, two = cli.write("1.csv", f"ID,{first}\n1,a\n"), cli.write("2.csv", f"{second},ID\nb,2\n")
    cli.loaded(one, two)
    assert list(cli.types()) == ["ID", first]
    assert cli.rows() == LANDED
    cli.loaded(two, "--mode", "append", "--column", f"{first}=STRING")
    assert list(cli.types()) == ["ID", first]
    assert cli.rows() == [*LANDED, (2, "b")]
    for words in (("--select", first, "--select", "ID"), ("--rename", f"{first}=X"), (*UPSERT, first)):
        cli.loaded(two, *words, table="OTHER" if "--key" not in words else "KEYS")


def test_columns_of_parquet_files_are_the_same_however_their_accents_are_encoded(cli):
    for name, column in (("1.parquet", NFC), ("2.parquet", NFD)):
        pq.write_table(pa.table({column: [name], "ID": [1]}), cli.folder / name)
    cli.loaded("1.parquet", "2.parquet")
    assert list(cli.types()) == [NFC, "ID"]
    assert cli.rows() == [("1.parquet", 1), ("2.parquet", 1)]
    cli.loaded("2.parquet", "--mode", "append")
    assert list(cli.types()) == [NFC, "ID"]
    assert len(cli.rows()) == 3


def test_a_file_is_found_however_its_accents_are_encoded(cli):
    cli.write(f"{NFD}.csv", ROWS)
    cli.loaded(f"{NFC}.csv")
    assert cli.rows() == LANDED


# --- Missing files, unknown formats, empty files


@pytest.mark.parametrize(
    ("missing", "hint"),
    [
        ("ordes.csv", "did you mean orders.csv?"),
        ("Orders.CSV", "did you mean orders.csv?"),
        ("dta/orders.csv", "there is no folder dta; did you mean data?"),
        ("*.CSV", "has a.dat, orders.csv"),
        ("data/x.csv", "has no files"),
        ("dangling.csv", "it is a link to gone.csv, which does not exist"),
    ],
)
def test_a_missing_file_names_the_nearest(cli, missing, hint):
    cli.write("orders.csv", ROWS)
    cli.write("a.dat", ROWS)
    (cli.folder / "data").mkdir()
    (cli.folder / "dangling.csv").symlink_to("gone.csv")
    refused = cli.refused(missing)
    assert hint in refused.hint


def test_an_empty_folder_says_where_files_are(cli):
    (cli.folder / "data" / "2024").mkdir(parents=True)
    assert "--allow-empty" in cli.refused("data").hint
    cli.write("data/2024/a.csv", ROWS)
    refused = cli.refused("data")
    assert "'data/**/*.csv'" in refused.hint
    cli.loaded("data/**/*.csv")
    cli.write("data/_a.csv", ROWS)
    assert "data/_a.csv" in cli.refused("data").hint


@pytest.mark.parametrize("name", ["a.dat", "a", "a.log.1"])
@pytest.mark.parametrize("content", ["csv", "gzip", "utf-16", "parquet", "arrow"])
def test_a_name_that_shows_no_format_prints_the_flag(cli, name, content):
    refused = cli.refused(save(cli, name, CONTENTS[content]), code=2)
    cli.loaded(name, *refused.suggestion("--format"))
    assert cli.rows() == LANDED


@pytest.mark.parametrize(
    ("name", "content", "hint"),
    [
        ("a.xlsx", "workbook", "save the sheet as CSV"),
        ("a.zip", "zip", "unpack it first"),
        ("a", "workbook", "it is an Excel workbook: save the sheet as CSV"),
        ("a.json", "json", "convert it to CSV or Parquet"),
        ("a.bin", "zeros", "--format csv or --format parquet or --format arrow"),
    ],
)
def test_a_name_of_another_format_says_what_to_do(cli, name, content, hint):
    assert hint in cli.refused(save(cli, name, CONTENTS[content]), code=2).hint


def test_a_folder_of_mixed_files_names_the_pattern(cli):
    (cli.folder / "data").mkdir()
    cli.write("data/a.csv", ROWS)
    cli.write("data/NOTES.md", "notes")
    refused = cli.refused("data", code=2)
    assert "data/NOTES.md does not show its format" in refused.error
    assert "'data/*.csv'" in refused.hint
    cli.loaded("data/*.csv")


@pytest.mark.parametrize("content", EMPTY)
def test_an_empty_file_is_an_empty_extract_also_if_it_is_compressed(cli, content):
    cli.loaded(cli.write("full.csv", ROWS))
    empty = save(cli, "empty.csv.gz" if "gzip" in content else "empty.csv", EMPTY[content])
    refused = cli.refused(empty)
    assert "the file is empty" in refused.error
    cli.loaded(empty, *refused.suggestion("--allow-empty"), "--mode", "append")
    assert cli.rows() == LANDED
    cli.loaded("full.csv", empty, "--allow-empty")
    assert cli.rows() == LANDED
    cli.loaded(empty, "--allow-empty")
    assert cli.rows() == []


def test_an_empty_compressed_stream_is_an_empty_extract(cli, stdin):
    cli.loaded(cli.write("full.csv", ROWS))
    stdin(gzip.compress(b""))
    cli.loaded("-", "--format", "csv", "--allow-empty")
    assert cli.rows() == []


def test_text_in_another_encoding_prints_the_flag(cli):
    name = save(cli, "a.csv", "ID,N\n1,Grün\n".encode("cp1252"))
    refused = cli.refused(name)
    cli.loaded(name, *refused.suggestion("--encoding"))
    assert cli.rows() == [(1, "Grün")]
    save(cli, name, b"ID,N\n1,a\x81\n")
    refused = cli.refused(name, "--encoding", "cp1252")
    assert "line 2" in refused.error
    cli.loaded(name, *refused.suggestion("--encoding"))
