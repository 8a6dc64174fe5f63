"""The files of loads: which there are, which of them a load pushes, and what happens to them after DONE."""
