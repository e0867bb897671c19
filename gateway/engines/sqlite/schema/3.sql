-- Offsets name the run of the log that gave them out: an epoch begins with each opening of the store, after the
-- position ``first``, and ends where the next one begins. See epochs.py.
CREATE TABLE epochs (
    id    INTEGER PRIMARY KEY,
    name  TEXT NOT NULL UNIQUE,
    first INTEGER NOT NULL
);
INSERT INTO epochs (name, first) SELECT name, 0 FROM log_name;
DROP TABLE log_name;

-- began: the newest position when the session began. suspended_at is from now on in the store's running time
-- (clocks.py); every opening sets it anew.
ALTER TABLE sessions ADD COLUMN began INTEGER NOT NULL DEFAULT 0;
CREATE INDEX live_sessions ON sessions (username) WHERE connection IS NOT NULL;

-- trimmed: the newest trimmed position of the events that the whole room receives, trimmed_author its author, and
-- trimmed_other the newest trimmed one by another author. (Before, events for a single member counted, too.)
ALTER TABLE rooms ADD COLUMN trimmed_author TEXT;
ALTER TABLE rooms ADD COLUMN trimmed_other INTEGER NOT NULL DEFAULT 0;
UPDATE rooms SET trimmed = trimmed + 1, trimmed_other = trimmed + 1 WHERE trimmed > 0;

-- Rooms that are gone and whose log is yet to be deleted. Ids of rooms are never used again.
CREATE TABLE ended_rooms (room_id INTEGER PRIMARY KEY);

-- position: never used twice, not even after the newest rows were deleted (AUTOINCREMENT).
-- kind: 0 for a message, 1 for other events that the whole room receives, null for one that only ``recipient`` receives:
-- the room-joined of a member, at the position ``joined``, which is deleted when the membership ends.
-- number and size: how many events of its room and kind there have been with this one, and the bytes of their bodies.
-- other: the position of the newest one before it that has another author (``origin``), or 0.
-- message_id is the one that a client gave its message; one of ours names the position. ts: Unix time in ms.
CREATE TABLE new_log (
    position   INTEGER PRIMARY KEY AUTOINCREMENT,
    room_id    INTEGER NOT NULL,
    kind       INTEGER,
    event      TEXT NOT NULL,
    origin     TEXT,
    recipient  TEXT,
    message_id TEXT,
    ts         INTEGER,
    number     INTEGER,
    size       INTEGER,
    other      INTEGER,
    body       BLOB NOT NULL
);
INSERT INTO new_log (position, room_id, kind, event, origin, message_id, ts, number, size, other, body)
    SELECT position, room_id, kind, event, origin,
        CASE kind WHEN 0 THEN coalesce(message_id, json_extract(body, '$.id')) END, ts,
        row_number() OVER so_far, sum(length(body)) OVER so_far,
        coalesce(max(CASE WHEN before_author IS NOT origin THEN before END) OVER so_far, trimmed), body
    FROM (
        SELECT log.*, event != 'message' AS kind, trimmed,
            lag(position) OVER room AS before, lag(origin) OVER room AS before_author
        FROM log JOIN rooms ON rooms.id = room_id WHERE recipient IS NULL
        WINDOW room AS (PARTITION BY room_id, event != 'message' ORDER BY position)
    )
    WINDOW so_far AS (PARTITION BY room_id, kind ORDER BY position)
    ORDER BY position;
INSERT INTO new_log (position, room_id, event, origin, recipient, body)
    SELECT position, room_id, event, origin, recipient, body
    FROM log JOIN members USING (room_id) WHERE recipient = username AND position = joined;
DELETE FROM sqlite_sequence WHERE name = 'new_log';
INSERT INTO sqlite_sequence SELECT 'new_log', seq FROM sqlite_sequence WHERE name = 'log';
DROP TABLE log;
ALTER TABLE new_log RENAME TO log;
CREATE INDEX log_of_room ON log (room_id, kind, position) WHERE kind IS NOT NULL;
CREATE INDEX log_of_message ON log (room_id, message_id, origin) WHERE message_id IS NOT NULL;

-- kept: when the message was trimmed, in the store's running time.
CREATE TABLE new_trimmed_messages (
    room_id    INTEGER NOT NULL,
    origin     TEXT NOT NULL,
    message_id TEXT NOT NULL,
    position   INTEGER NOT NULL,
    ts         INTEGER NOT NULL,
    kept       INTEGER NOT NULL,
    PRIMARY KEY (room_id, origin, message_id)
) WITHOUT ROWID;
INSERT INTO new_trimmed_messages SELECT room_id, origin, message_id, position, ts, 0 FROM trimmed_messages;
DROP TABLE trimmed_messages;
ALTER TABLE new_trimmed_messages RENAME TO trimmed_messages;
CREATE INDEX trimmed_messages_by_age ON trimmed_messages (kept);
