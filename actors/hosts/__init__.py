"""Pools on other hosts: how hosts talk, a cell as its front sees it, and a front as its host sees it.

Law of this package: only plain messages cross; an event is booked by its front, whatever becomes of the host.
"""
