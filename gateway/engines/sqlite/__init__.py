"""The embedded store: one SQLite file, or memory.

``engine`` is the `Engine`; it hands operations to ``commits``, which runs them in batches and commits on one thread.
The operations are in ``sessions``, ``rooms`` and ``log`` (what happened in the rooms), which ``tables`` holds together;
``database`` opens the file, ``files`` locks it, ``watch`` notices when it is gone, ``checkpoints`` (with ``walindex``)
keep its log short and ``space`` its size, and ``backup`` copies it.
"""
