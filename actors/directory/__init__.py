"""The sessions of one process: found, opened once, put to sleep, taken up again after a crash.

Law of this package: what concerns many sessions is here, what concerns one is in `sessions`.
"""
