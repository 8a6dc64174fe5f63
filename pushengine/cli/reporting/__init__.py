"""Tables and reports: results of commands, fitted to the width of the terminal."""
