"""Actors as plain async classes: dispatcher, session, pools; they import routing and their own ports only."""

if __name__ != "laneway.actors":
    raise ImportError("import laneway.actors, not actors: the bare name would make a second copy of every class")
