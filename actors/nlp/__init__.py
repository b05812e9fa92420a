"""The nlp pool: runs of a language model as correctly sequenced AG-UI events."""
