"""The wire schema for other languages, its generated Python, and our own fast reading of it."""
