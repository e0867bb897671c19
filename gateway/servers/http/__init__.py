"""aiohttp's HTTP server, with what it lacks."""
