"""Whether a text file is written as its header line shows, and how to read it if it is not."""
