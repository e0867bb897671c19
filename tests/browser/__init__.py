"""The web page in a real Chromium, against a real gateway, with clients of all other kinds around it."""
