"""Which character encoding fits text that is not UTF-8."""

from __future__ import annotations

import itertools
import re

_AREA = re.compile(rb"\b[kcdm]?m[\xb2\xb3]")
"""Square and cubic meters in cp1252."""
_HIGH = re.compile(rb"[\x80-\xff]+")
_WESTERN = "cp1252"
_OTHERS = ("cp1250", "cp850", "mac_roman")
_PUNCTUATION = "\u2018\u2019\u201c\u201d\u2013\u2014\u2026\u20ac\xb0"
"""Quotes, dashes and signs of cp1252 that stand directly after a letter in ordinary text."""
_CYRILLIC = ("cp1251", "koi8_r")
_EAST_ASIAN = ("shift_jis", "euc_jp", "euc_kr", "gb18030", "big5")
_KANA_AND_HANGUL = re.compile("[\u3040-\u30ff\uac00-\ud7a3]")
_IDEOGRAPH = re.compile("[\u3000-\u30ff\u4e00-\u9fff\uac00-\ud7a3\uff00-\uff60]")
_MOST = 0.9
_MANY_IN_RUNS = 0.7


def has_both(text: bytes) -> bool:
    """Return whether some lines are not valid UTF-8, and others are with characters outside of ASCII: no single encoding fits."""
    is_valid, is_broken = False, False
    for line in text.split(b"\n"):
        if line.isascii():
            continue
        try:
            line.decode()
        except UnicodeDecodeError:
            is_broken = True
        else:
            is_valid = True
    return is_valid and is_broken


def fitting_encoding(text: bytes) -> str:
    """Return the encoding that most likely fits whole lines that are not valid UTF-8; `cp1252` if nothing speaks against it."""
    runs = _HIGH.findall(text)
    high = sum(map(len, runs))
    if high and sum(len(run) for run in runs if len(run) > 1) > _MANY_IN_RUNS * high:
        return _east_asian(text) or max(_CYRILLIC, key=lambda encoding: _plausibility(text, encoding))
    text = _AREA.sub(b"", text)
    if not _penalties(text, _WESTERN):
        return _WESTERN
    return max((_WESTERN, *_OTHERS), key=lambda encoding: _plausibility(text, encoding))


def _east_asian(text: bytes) -> str:
    found = []
    for encoding in _EAST_ASIAN:
        try:
            decoded = text.decode(encoding)
        except UnicodeDecodeError:
            continue
        others = [character for character in decoded if not character.isascii()]
        if others and len(_IDEOGRAPH.findall(decoded)) > _MOST * len(others):
            found.append((len(_KANA_AND_HANGUL.findall(decoded)) / len(others) > 1 - _MOST, encoding))
    return max(found, key=lambda one: one[0])[1] if found else ""


def _plausibility(text: bytes, encoding: str) -> int:
    """Return a number that is the higher, the more of the characters are letters of words whose case fits."""
    letters = sum(character.isalpha() and not character.isascii() for character in text.decode(encoding, "replace"))
    return letters - 2 * _penalties(text, encoding)


def _penalties(text: bytes, encoding: str) -> int:
    """Return the number of characters that hardly occur in text: controls, signs directly after a letter, capitals after a small letter."""
    found = 0
    for before, character in itertools.pairwise(f" {text.decode(encoding, 'replace')}"):
        if character.isascii() or character in _PUNCTUATION:
            continue
        if character.isalpha():
            found += before.islower() and character.isupper()
        else:
            found += before.isalpha() or not character.isprintable() or character == "\ufffd"
    return found
