"""The protocol between clients and the gateway, as data. It imports nothing else of the gateway.

- `actions`: every action, with its request, reply, errors and events; `events`: every event; `shapes`: what both hold.
- `login`: what clients log in with.
- `errors`, `closecodes`, `limits`: how a request fails, why a connection is closed, what is bounded.
- `fields`, `schemas`: how the type of a field becomes a marshmallow schema and a JSON Schema.
- `names`, `offsets`: what a room may be called; what an offset looks like.
- `asyncapi`: the document that ``gateway asyncapi`` prints.

To add an action, declare it in `actions`, implement it in `gateway.chat`, and test it. The tables of docs/protocol.md,
the types of the web client and the AsyncAPI document follow from the declaration: ``python -m tools.generate``.
"""
