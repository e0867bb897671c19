"""``--workers``: several gateway processes on one port, and the supervisor that keeps them running.

It starts them, restarts those that die, passes on signals, and stops them together. It has no event loop and serves no
client. Where the workers have no server to share, it runs a Valkey server of their own.
"""
