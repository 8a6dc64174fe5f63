"""Foreign names and texts as people see them, as they are compared, and as they are stored."""

import json
import os
import shlex
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushengine.text import flag, name_key, shown_name, shown_names, shown_text, spelled_like, storable

NFC, NFD = "Größe", unicodedata.normalize("NFD", "Größe")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Net Amount, €", "Net Amount, €"),
        ("a\tb\r\nc", r"a\tb\r\nc"),
        ("\x1b[31mRED\x7f", r"\x1b[31mRED\x7f"),
        ("\u200bID\ufeff", r"\u200bID\ufeff"),
        ("a\u202eb", r"a\u202eb"),
        ("no\xa0break\xad", r"no\u00a0break\u00ad"),
        ("\u3164\ufe0f\U000e0100", r"\u3164\ufe0f\U000e0100"),
        (os.fsdecode(b"Auftr\xe4ge"), r"Auftr\xe4ge"),
        ("\ud800", r"\ud800"),
        (NFD, NFD),
    ],
)
def test_what_cannot_be_seen_is_shown_as_an_escape(text, shown):
    assert shown_text(text) == shown


@given(st.text(st.characters(exclude_categories=())))
def test_a_shown_text_is_printable_and_utf8(text):
    shown = shown_text(text)
    assert shown.isprintable()
    assert shown_text(shown) == shown
    shown.encode()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Net Amount", "Net Amount"),
        ("it's", "it's"),
        ("", "''"),
        ("NAME ", "'NAME '"),
        ("\u3000NAME", r"'\u3000NAME'"),
        ("a\\b\t'", r"'a\\b\t\''"),
    ],
)
def test_a_name_is_in_quotes_if_it_could_be_misread(name, shown):
    assert shown_name(name) == shown


def test_all_names_of_a_list_are_in_quotes_if_one_is():
    assert shown_names(["A", "B"]) == "A, B"
    assert shown_names(["A", "B "]) == "'A', 'B '"
    assert shown_names(["A"], beside=["A "]) == "'A'"


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1))
def test_names_that_differ_are_shown_differently(name):
    assert len({shown_name(name), shown_name(name + " "), shown_name(name + "\u200b"), shown_name("\x1b" + name)}) == 4


@pytest.mark.skipif(sys.platform == "win32", reason="needs bash")
@pytest.mark.parametrize("value", ["ID", "Net Amount", "it's", "\u200bID", "a\tb'\\n", "\x1b[31m", "ü\u200b", "NAME "])
def test_a_flag_can_be_pasted_into_a_shell(value):
    words = flag("key", value)
    assert words.isprintable()
    printed = subprocess.run(
        ["bash", "-c", f"printf '%s' {words.removeprefix('--key ')}"],
        env=os.environ | {"LC_ALL": "C.UTF-8"},
        capture_output=True,
        check=True,
    )
    assert printed.stdout.decode() == value


def test_an_ordinary_value_is_quoted_as_everywhere():
    assert shlex.split(flag("exclude", "Net Amount")) == ["--exclude", "Net Amount"]


# --- Comparison


def test_names_are_compared_without_case_and_however_accents_are_encoded():
    assert NFC != NFD
    assert name_key(NFC) == name_key(NFD) == name_key(NFD.upper()) == name_key("GRÖSSE")
    assert name_key("A") != name_key("A ")


def test_names_take_the_spelling_of_the_others_but_keep_their_case():
    assert spelled_like([NFD, "id", "X"], ["ID", NFC]) == (NFC, "id", "X")


# --- Storage


@pytest.mark.parametrize("name", ["a.csv", "Größe\u200b", os.fsdecode(b"Auftr\xe4ge\xff"), r"Auftr\udce4ge", "\ud800"])
def test_json_with_any_name_can_be_stored_and_read_back(name):
    stored = storable(json.dumps([name], ensure_ascii=False))
    assert json.loads(stored.encode().decode()) == [name]


def test_a_text_that_is_utf8_is_stored_unchanged():
    assert storable("Größe\u200b\\") == "Größe\u200b\\"
