"""Parquet files that are sent without decoding them: read, judged and cut as bytes."""
