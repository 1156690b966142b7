"""The results of a run: one table, one row a case, in Parquet, CSV and JSON lines."""
