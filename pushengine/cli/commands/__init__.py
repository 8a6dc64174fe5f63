"""The commands, one module per group. `pushengine.cli.app` registers them under their names.

A command is a plain function of its options. It defines `body(interrupts)`, which opens what it needs with `pushengine.cli.session`, calls
the library and prints the result with `pushengine.cli.terminal`. `runner.run(body)` runs it and sets the exit code. Heavy libraries
(pyarrow, aiohttp, rich, pydantic) are imported inside `body`.
"""
