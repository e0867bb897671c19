"""The wires: how clients reach the gateway, each decoding what arrives, calling `gateway.actions`, and writing
what they hear.

`SocketServer` and `EngineServer`, on which they stand, serve any python-socketio application (``docs/servers.md``).
"""

from gateway.transports.engineio import EngineServer
from gateway.transports.socketserver import SocketServer

__all__ = ["EngineServer", "SocketServer"]
