"""The tools pool: one catalogue, one lifecycle, one ledger for every tool, wherever it runs."""
