"""Pools of cells: what waits for a handler, how it runs it, and what its answer becomes.

Law of this package: it knows neither sessions nor hosts; what comes in is an envelope, what goes out is an outcome.
"""
