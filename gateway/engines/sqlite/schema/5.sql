-- A row: the store was closed in order at that time (Unix time, s), and not opened since. Without one it is checked at the start.
CREATE TABLE closed (at INTEGER NOT NULL);
-- Of a pid only the SHA-256 is kept (hex). See sessions.py.
UPDATE sessions SET pid = sha256(pid), previous_pid = sha256(previous_pid);
