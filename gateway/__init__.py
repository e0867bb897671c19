"""A real-time chat gateway: Socket.IO and plain WebSocket clients in the same rooms, nothing lost."""
