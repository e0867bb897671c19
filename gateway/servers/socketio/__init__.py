"""Socket.IO 5."""
