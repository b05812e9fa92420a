"""Shared documents: a CRDT per document id, edited by Yjs frames or JSON patches, told to sessions.

Law of this package: everything here is pure or talks to ports only; the CRDT itself is behind
`document.Document`, so that its library's traps stop in one adapter.
"""
