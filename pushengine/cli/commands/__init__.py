"""The commands, a module for each family. `pushengine.cli.app` gives them their names.

A command is a plain function of its options: it defines `body(interrupts)`, which opens what it needs with `pushengine.cli.session`, asks the
library, and tells the result with `pushengine.cli.terminal`; `runner.run(body)` makes an exit code of it. Heavy modules (pyarrow, aiohttp,
rich, pydantic) are imported inside of `body`.
"""
