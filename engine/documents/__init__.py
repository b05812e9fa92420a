"""Documents on pycrdt: the engine's replica of a shared document, and a client's.

Law of this package: pycrdt's traps stop here; nothing outside sees its types or exceptions.
"""
