"""Which front a session or document is at home with: decided, remembered, and looked for again.

Law of this package: it knows names and members, never what is inside a session.
"""
