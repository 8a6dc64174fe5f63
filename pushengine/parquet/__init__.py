"""Reading Parquet files, and passing them through: their bytes are checked, cut and sent without decoding them."""
