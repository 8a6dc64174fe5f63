"""Random nights of files (new, late, twice, renamed, rewritten, touched, half-written) against a simple model of each mode.

The model knows paths and contents only: no stats, no rows, no hashes.
"""

import os
import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.load_files import Load

PATTERN = "{table}_{date:%Y%m%d}_*"
events = st.tuples(
    st.sampled_from(["new", "new", "new", "copy", "copy", "rename", "rewrite", "grow", "touch", "delete", "half"]),
    st.integers(20, 26),
    st.integers(1, 3),
    st.integers(0, 50),
)
nights = st.lists(st.lists(events, max_size=4), min_size=1, max_size=6)


class Folder:
    """Files with contents that are all different, unless one is a copy."""

    def __init__(self, path):
        self.path = path
        self.count = 0
        self.halves = []

    def content(self):
        self.count += 1
        return f"content {self.count % 10} {self.count}"

    def finish_halves(self):
        for path in self.halves:
            if path.exists():
                path.rename(path.with_suffix(""))
        self.halves = []

    def apply(self, event):
        what, day, part, pick = event
        path = self.path / f"A_202611{day}_{part}.csv"
        there = sorted(self.path.glob("*.csv"))
        chosen = there[pick % len(there)] if there else None
        if what == "new" and not path.exists():
            path.write_text(self.content())
        elif what == "half" and not path.exists():
            self.halves.append(path.with_name(f"{path.name}.tmp"))
            self.halves[-1].write_text(self.content())
        elif chosen is None:
            return
        elif what in {"copy", "rename"} and not path.exists():
            path.write_text(chosen.read_text())
            if what == "rename":
                chosen.unlink()
        elif what == "rewrite":
            chosen.write_text(self.content())
        elif what == "grow":
            chosen.write_text(chosen.read_text() + self.content())
        elif what == "touch":
            os.utime(chosen)
        elif what == "delete":
            chosen.unlink()

    def finished(self):
        return {path: path.read_text() for path in sorted(self.path.glob("*.csv"))}

    def held(self):
        return {path.name[2:10] for path in self.path.glob("*.tmp")}


def play(all_nights, mode, check):
    with tempfile.TemporaryDirectory() as name:
        folder = Folder(Path(name))
        load = Load(Path(name), PATTERN, mode=mode)
        for night in all_nights:
            folder.finish_halves()
            for event in night:
                folder.apply(event)
            choice = load.night()
            assert choice.error is None
            check(folder, [[Path(file.uri) for file in push.files] for push in choice.pushes], choice)
            again = load.choose()
            assert not again.pushes
            assert refused(again) <= refused(choice)


def refused(choice):
    return {Path(file.uri) for left in choice.refused for file in left.files}


@settings(max_examples=60)
@given(nights)
def test_append_loads_each_content_once_and_never_a_known_path_with_another(all_nights):
    loaded, known = set(), {}

    def check(folder, pushes, choice):
        expected, grown = [], []
        for path, content in folder.finished().items():
            if path in known:
                grown += [path] if known[path] != content else []
                continue
            known[path] = content
            if content not in loaded:
                loaded.add(content)
                expected.append(path)
        assert sorted(path for push in pushes for path in push) == expected
        assert len(pushes) <= 1
        assert sorted(refused(choice)) == grown

    play(all_nights, "append", check)


@settings(max_examples=60)
@given(nights)
def test_after_replace_the_table_holds_the_newest_complete_generation(all_nights):
    table, newest = set(), ""

    def check(folder, pushes, choice):
        nonlocal table, newest
        finished, held = folder.finished(), folder.held()
        days = sorted({path.name[2:10] for path in finished} - held)
        expected = table
        if days and days[-1] >= newest:
            here = {content for path, content in finished.items() if path.name[2:10] == days[-1]}
            if days[-1] != newest or not here <= table:  # a loaded file that is gone changes nothing
                expected = here
        assert len(pushes) == (expected != table)
        for push in pushes:
            contents = [path.read_text() for path in push]
            assert sorted(contents) == sorted(expected)  # each content once
            newest = push[0].name[2:10]
        table = expected

    play(all_nights, "replace", check)


@settings(max_examples=60)
@given(nights)
@example([[("new", 20, 1, 0), ("copy", 21, 1, 0), ("new", 22, 1, 0)]])
@example([[("new", 21, 1, 0), ("new", 21, 2, 0), ("copy", 20, 1, 0)]])
def test_upsert_loads_each_file_of_a_generation_once_in_order_and_none_after_a_newer_one(all_nights):
    pushed, contents, newest = set(), set(), ""

    def check(folder, pushes, choice):
        nonlocal newest
        finished, held, before = folder.finished(), folder.held(), newest
        for push in pushes:
            (day,) = {path.name[2:10] for path in push}
            assert day >= newest
            assert not {one for one in held if one <= day}  # nothing overtakes what is not complete
            newest = day
            files = {(path, finished[path]) for path in push}
            assert not files & pushed
            pushed.update(files)
            contents.update(content for _, content in files)
        assert all(path.name[2:10] < before for path in refused(choice))
        for path, content in finished.items():
            day = path.name[2:10]
            if day >= before and not any(one <= day for one in held):
                assert (path, content) in pushed or content in contents, path
            elif day < before and day not in held and content not in contents:
                assert content in {finished[one] for one in refused(choice)}

    play(all_nights, "upsert", check)
