"""The sessions of a cluster: links and events that come in at one front and belong to another.

Law of this package: bytes under way are bounded per connection; a session's rules stay with its home.
"""
