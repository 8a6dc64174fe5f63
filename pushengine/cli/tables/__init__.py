"""What is remembered of tables: finding it in the journal, and files of columns."""
