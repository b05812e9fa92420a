"""Pure decisions: no loop, no clock, no wire, no randomness; standard library only."""

if __name__ != "laneway.routing":
    raise ImportError("import laneway.routing, not routing: the bare name would make a second copy of every class")
