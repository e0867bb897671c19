"""The rules of the chat: who may join, who is notified, when a room ends, what counts as recovered.

Each rule is a coroutine function over a `gateway.engines.transaction.Transaction`, so that it is written once for every
store, and knows neither SQL nor sockets. ``store`` runs them on an engine.
"""
