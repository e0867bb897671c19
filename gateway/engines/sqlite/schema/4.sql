-- kind: 'group', or 'direct' for the server's own room of two. history: 'all', or 'joined' if members cannot read
-- what was sent before they joined. pair: the sids of the two of a direct room, in order; later holders have others.
ALTER TABLE rooms ADD COLUMN kind TEXT NOT NULL DEFAULT 'group';
ALTER TABLE rooms ADD COLUMN history TEXT NOT NULL DEFAULT 'all';
ALTER TABLE rooms ADD COLUMN pair TEXT;
CREATE UNIQUE INDEX direct_rooms ON rooms (pair) WHERE pair IS NOT NULL;

-- invited: whether others put the member into the room. peer: the other of a direct room.
ALTER TABLE members ADD COLUMN invited INTEGER NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN peer TEXT;
CREATE INDEX invitations ON members (username) WHERE invited;

-- resumable: whether the client was sent the pid. If not, it cannot resume the session.
ALTER TABLE sessions ADD COLUMN resumable INTEGER NOT NULL DEFAULT 1;

-- Who left a room on purpose, and when (ms, see departures.py): others cannot add them again for an hour.
CREATE TABLE departures (
    place    TEXT NOT NULL,
    username TEXT NOT NULL,
    left_at  INTEGER NOT NULL,
    PRIMARY KEY (place, username)
) WITHOUT ROWID;
CREATE INDEX departures_of_user ON departures (username, left_at);
CREATE INDEX departures_by_age ON departures (left_at);
