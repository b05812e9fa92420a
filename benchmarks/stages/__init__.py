"""One module per layer: each names the steps an event takes there, on the real classes, one at a time."""
