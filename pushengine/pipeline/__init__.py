"""The pipeline from a source to uploaded chunks: read, cut, encode, queue, upload, verify."""
