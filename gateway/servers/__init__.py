"""Engine.IO, Socket.IO and WebSocket servers for any application on aiohttp (``docs/servers.md``). They import
nothing of the chat.
"""

import logging

from gateway.servers.budget import Budget
from gateway.servers.engineio.forwarding import Directory, Forwarding
from gateway.servers.engineio.server import EngineServer
from gateway.servers.http.runner import Runner
from gateway.servers.http.upgrades import Upgrades
from gateway.servers.seats import Seats
from gateway.servers.socketio.clients import Client, EventHandler
from gateway.servers.socketio.manager import Manager
from gateway.servers.socketio.server import SocketServer

# Without a configuration of logging, the servers write nothing (docs/servers.md).
for name in ("gateway.servers", "gateway.socketio"):
    logging.getLogger(name).addHandler(logging.NullHandler())

__all__ = [
    "Budget",
    "Client",
    "Directory",
    "EngineServer",
    "EventHandler",
    "Forwarding",
    "Manager",
    "Runner",
    "Seats",
    "SocketServer",
    "Upgrades",
]
