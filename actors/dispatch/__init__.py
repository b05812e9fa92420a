"""The dispatcher: who is let in, what waits where, what goes to which pool, and the books of it all.

Law of this package: every decision is `routing`'s; here are the loops around it, over `pools`.
"""
