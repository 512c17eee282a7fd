"""Images and labels: Datum records, LMDB, transformer, mean files, loaders and their layers."""
