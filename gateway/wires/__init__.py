"""How the chat is spoken on each wire: decode, perform, reply."""
