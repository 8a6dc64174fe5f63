"""The commands, a module for each family. `pushengine.cli` gives them their names.

A command is a plain function of its options: it defines `body(interrupts)`, which opens what it needs with `pushengine.session`, asks the
library, and tells the result with `pushengine.terminal`; `runner.run(body)` makes an exit code of it. Heavy modules (pyarrow, aiohttp,
rich, pydantic) are imported inside of `body`.
"""
