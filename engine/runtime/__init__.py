"""Where actors and tools run: this event loop, worker processes, other hosts."""
