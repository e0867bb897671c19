"""The wires: how clients reach the gateway, each decoding what arrives, calling `gateway.actions`, and writing
what they hear.

`SocketServer` and `EngineServer`, on which they stand, serve any python-socketio application (``docs/servers.md``).
"""

import logging

from gateway.transports.engineio import EngineServer
from gateway.transports.socketserver import SocketServer

# An application that configures no logging hears nothing of the servers (docs/servers.md).
for name in ("gateway.transports", "gateway.socketio"):
    logging.getLogger(name).addHandler(logging.NullHandler())

__all__ = ["EngineServer", "SocketServer"]
