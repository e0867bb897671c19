"""The wires: how clients reach the gateway, each decoding what arrives, calling `gateway.actions`, and writing
what they hear.
"""
