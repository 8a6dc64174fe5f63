"""200 small odd files, each with the flags that it is pushed with, and what lands or how it is refused.

What is expected comes from what people who write such files mean by them, and from what the manual promises; not from what the code does.
"""

import pytest
from corpus import bytes_and_names, cases, headers, layouts, presets, rejects, values
from support.odd_files import check

GROUPS = {
    "header": headers,
    "layout": layouts,
    "preset": presets,
    "bytes": bytes_and_names,
    "value": values,
    "reject": rejects,
    "case": cases,
}
ODD_FILES = {f"{group}: {odd}": odd for group, module in GROUPS.items() for odd in module.ODD_FILES}


@pytest.mark.parametrize("odd", ODD_FILES.values(), ids=ODD_FILES)
def test_what_lands_or_how_it_is_refused(odd, tmp_path, monkeypatch):
    check(odd, tmp_path, monkeypatch)


def test_there_are_200_odd_files():
    assert len(ODD_FILES) >= 200
    assert len(ODD_FILES) == sum(len(module.ODD_FILES) for module in GROUPS.values())
