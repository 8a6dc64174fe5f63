"""The manual: Markdown pages that ship with the package, in `pushengine/manual`."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Mapping

TOPICS = (
    "first-steps",
    "files",
    "types",
    "tables",
    "loads",
    "quota",
    "exactly-once",
    "exit-codes",
    "settings",
    "python",
    "emulator",
    "troubleshooting",
)
"""The topics in the order in which they are listed."""
_TAG = re.compile(r"^<!--.*-->\n", re.MULTILINE)


def page(topic: str) -> str:
    """Return the Markdown of a topic, without the tags that only tests read."""
    file = importlib.resources.files("pushengine") / "manual" / f"{topic}.md"
    return _TAG.sub("", file.read_text(encoding="utf-8"))


def titles() -> Mapping[str, str]:
    """Return the title of each topic."""
    return {topic: page(topic).partition("\n")[0].removeprefix("# ") for topic in TOPICS}
