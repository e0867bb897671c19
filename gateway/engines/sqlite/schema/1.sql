-- The store of one gateway. Later files in this folder change what this one makes; see database.py.

-- One row: the name of this log, which every offset carries. A store that was wiped has another.
CREATE TABLE log_name (name TEXT NOT NULL);
INSERT INTO log_name VALUES (lower(hex(randomblob(6))));

-- A live session has a connection; a suspended one has the time of its suspension (Unix time, ms) instead.
-- previous_pid: works as well until the client has used pid, which may not have reached it.
-- missed_by_leaving: the newest position that the user received, or should have, in a room that it has left.
CREATE TABLE sessions (
    username          TEXT PRIMARY KEY,
    sid               TEXT NOT NULL,
    pid               TEXT NOT NULL,
    previous_pid      TEXT,
    missed_by_leaving INTEGER NOT NULL DEFAULT 0,
    connection        TEXT,
    suspended_at      INTEGER,
    CHECK ((connection IS NULL) != (suspended_at IS NULL))
) WITHOUT ROWID;
CREATE INDEX suspended_sessions ON sessions (suspended_at) WHERE suspended_at IS NOT NULL;

-- trimmed: the newest position that was trimmed from the room's log.
CREATE TABLE rooms (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    name         TEXT NOT NULL UNIQUE,
    member_count INTEGER NOT NULL,
    trimmed      INTEGER NOT NULL DEFAULT 0
);

-- joined: the position after which the member receives the events of the room.
CREATE TABLE members (
    room_id  INTEGER NOT NULL REFERENCES rooms (id),
    username TEXT NOT NULL REFERENCES sessions (username),
    joined   INTEGER NOT NULL,
    PRIMARY KEY (room_id, username)
) WITHOUT ROWID;
CREATE INDEX rooms_of_member ON members (username, room_id);

-- position: never used twice, not even after the newest rows were deleted (AUTOINCREMENT).
-- origin: who caused the event. recipient: the only one who receives it, or null for the whole room.
-- message_id is the one that a client gave its message (one of ours is in its body alone), ts that of a message; body
-- is the event's JSON object.
CREATE TABLE log (
    position   INTEGER PRIMARY KEY AUTOINCREMENT,
    room_id    INTEGER NOT NULL REFERENCES rooms (id),
    event      TEXT NOT NULL,
    origin     TEXT,
    recipient  TEXT,
    message_id TEXT,
    ts         INTEGER,
    body       BLOB NOT NULL
);
CREATE INDEX log_of_room ON log (room_id, position);
CREATE INDEX log_of_message ON log (room_id, message_id) WHERE message_id IS NOT NULL;
