"""Help beyond `--help`: the manual, examples of each command, completion in shells."""
