"""The Socket.IO wire: stock clients, over long-polling and WebSocket; see ``docs/protocol.md``."""
