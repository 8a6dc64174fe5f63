"""Texts that try to control a terminal or to forge lines, and a check of what commands print."""

import contextlib
import fcntl
import io
import os
import re
import struct
import termios
import threading
import tty
import unicodedata

from support.command_line import Result

from pushengine.cli import app

FORGED = "FORGED"
_BREAKS = ("\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029")
HOSTILE = "\x1b]0;title\x07\x1b[8m\x1b[2J\x9b8m\x08\x7f\u202e\u200b\u2066\ufeff[red]x[/red][link=x]" + "".join(
    f"{line_break}{FORGED} done" for line_break in _BREAKS
)
LONG = 300_000
HUGE = HOSTILE + "A" * LONG
UNPAIRED = f"{HUGE}\udce4\ud800"
"""Also with lone surrogates, as JSON and the names of files may have them."""
MOST_OUTPUT = 250_000
"""More characters than any command prints of a few foreign texts."""
COLUMNS = 2_000

# What the live display and colors need. No hostile text contains these.
_OF_DISPLAY = re.compile(
    r"\x1b\[(?:[0-7]|3[0-7]|1;3[0-7]|3[0-7];1|2;3[0-7]|38;5;\d+|9\d)?m|\x1b\[\?25[hl]|\r?\x1b\[2K|\r?\x1b\[1A|\r(?=\n)"
)
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def problem_of(text, *, is_terminal=False, is_json=False):
    """Return what is wrong with printed text; None if it cannot harm a terminal and has no forged line."""
    if is_terminal:
        text = _OF_DISPLAY.sub("", text)
    hidden = {one for one in text if one != "\n" and unicodedata.category(one) in _HIDDEN}
    if hidden:
        at = min(text.index(one) for one in hidden)
        return f"{sorted(hidden)} in {text[max(at - 60, 0) : at + 60]!r}"
    # The lines that continue a long text are indented by more than any line of a command.
    lines = [line for line in text.split("\n") if not line.startswith(" " * 8)]
    forged = [line for line in lines if line.lstrip(" 0123456789:Z|").startswith(FORGED)]
    if forged:
        return f"forged: {forged[0][:100]!r}"
    length = len(re.sub(r"[ \u2501]{3,}", "", text))  # a terminal's lines are padded
    return f"{length:,} characters" if length > MOST_OUTPUT and not is_json else None


def run_command(words, *, is_terminal=False):
    """Run a command in this process, on a terminal if that is wanted, and return what it printed."""
    if is_terminal:
        return _run_on_terminal(words)
    out, err = _text_stream(), _text_stream()
    code = _run(words, out, err)
    return Result(code, *(stream.buffer.getvalue().decode("utf-8", "surrogateescape") for stream in (out, err)))


def _text_stream():
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)


def _run(words, out, err):
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            return app.main(list(words))
        except SystemExit as exit_:
            return exit_.code


def _run_on_terminal(words):
    master, slave = os.openpty()
    tty.setraw(slave)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    received = []

    def receive():
        with contextlib.suppress(OSError):  # the other end is closed
            while piece := os.read(master, 65536):
                received.append(piece)

    reader = threading.Thread(target=receive)
    reader.start()
    with open(slave, "w", encoding="utf-8") as terminal:
        code = _run(words, terminal, terminal)
    reader.join()
    os.close(master)
    return Result(code, b"".join(received).decode("utf-8", "surrogateescape"), "")
