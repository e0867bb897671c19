"""The embedded store: one SQLite file, or memory.

``engine`` is the `Engine`; it hands operations to ``commits``, which runs them in groups on one thread. The
operations are in ``tables`` (sessions, rooms, members) and ``log`` (what was said); ``database`` opens the
file.
"""
