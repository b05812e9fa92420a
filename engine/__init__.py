"""The public API and every adapter: runtimes, edge, stores, models, tools, telemetry, config, CLI."""

if __name__ != "laneway.engine":
    raise ImportError("import laneway.engine, not engine: the bare name would make a second copy of every class")
