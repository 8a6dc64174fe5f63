"""Source over CSV and other delimited text, read strictly."""
