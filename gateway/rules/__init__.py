"""What the chat decides: who may join, who is told, when a room ends, what counts as recovered.

Each rule is a coroutine function over a `gateway.engines.transaction.Transaction`, so that it is written once, for
every store, and knows neither SQL nor a socket. ``store`` runs them, for the use cases above.
"""
