"""The store on a Valkey or Redis server, which many nodes share.

The server runs **scripts**, one file each, which check, write and publish in one step. Appending a message is one of
them. Rules run here, on what they have read (`workspace`); a script commits what they write if all of that still holds,
and else they run again. The log is the truth, and publishing only wakes: every publication names the one before it in
its room, so that a node notices what it has not received, and reads it from the log (`hub`).
"""
