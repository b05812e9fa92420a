"""Implementations of `laneway.actors.ports.Store`; `tests/conformance/test_store.py` runs over all of them."""
