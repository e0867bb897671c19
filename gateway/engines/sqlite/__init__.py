"""The embedded store: one SQLite file, or memory.

``engine`` is the `Engine`. It passes operations to ``commits``, which runs them in batches, in the order that
``fairqueue`` decides, and commits on a thread. ``transaction`` is what rules read and write. Each table has a module:
``sessions``, ``rooms``, ``members``, ``departures`` and ``log`` (with ``history``, ``spans``, ``trimming`` and
``epochs``). ``database`` opens the file, ``files`` locks it, ``watch`` notices when it is gone, ``checkpoints`` (with
``walindex``) keeps its write-ahead log short, ``space`` limits its size, and ``backup`` copies it.
"""
