"""One session at home: its way in, its way out, its log and its links.

Law of this package: a session is alone here; how it is found is `directory`, where it lives is `homes`.
"""
