"""The plain wire: one JSON object per WebSocket frame, ``/username/{name}``; see ``docs/protocol.md``, "The plain
wire".
"""
