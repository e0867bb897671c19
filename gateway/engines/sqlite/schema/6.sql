-- Members are users, whatever sessions they have, and a user may have several of these. node: which one has the
-- connection.
CREATE TABLE new_members (
    room_id  INTEGER NOT NULL REFERENCES rooms (id),
    username TEXT NOT NULL,
    joined   INTEGER NOT NULL,
    invited  INTEGER NOT NULL DEFAULT 0,
    peer     TEXT,
    PRIMARY KEY (room_id, username)
) WITHOUT ROWID;
INSERT INTO new_members SELECT room_id, username, joined,
    invited OR EXISTS (SELECT 1 FROM log WHERE position = joined AND recipient = username), peer
    FROM members;
DROP TABLE members;
ALTER TABLE new_members RENAME TO members;
CREATE INDEX rooms_of_member ON members (username, room_id);
CREATE INDEX invitations ON members (username) WHERE invited;

CREATE TABLE new_sessions (
    username          TEXT NOT NULL,
    sid               TEXT NOT NULL,
    pid               TEXT NOT NULL,
    previous_pid      TEXT,
    connection        TEXT,
    node              TEXT,
    suspended_at      INTEGER,
    resumable         INTEGER NOT NULL DEFAULT 1,
    began             INTEGER NOT NULL DEFAULT 0,
    missed_by_leaving INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (username, sid),
    CHECK ((connection IS NULL) != (suspended_at IS NULL)),
    CHECK ((connection IS NULL) = (node IS NULL))
) WITHOUT ROWID;
INSERT INTO new_sessions
    SELECT username, sid, pid, previous_pid, connection, iif(connection IS NULL, NULL, 'local'), suspended_at,
        resumable, began, missed_by_leaving
    FROM sessions;
DROP TABLE sessions;
ALTER TABLE new_sessions RENAME TO sessions;
CREATE INDEX suspended_sessions ON sessions (suspended_at) WHERE suspended_at IS NOT NULL;
CREATE INDEX live_sessions ON sessions (username) WHERE connection IS NOT NULL;

-- author: who caused an event.
ALTER TABLE log RENAME COLUMN origin TO author;
ALTER TABLE trimmed_messages RENAME COLUMN origin TO author;
