-- kind: 'group', or 'direct' for the server's own room of two. history: 'all', or 'joined' where nobody reads what was
-- said before they joined. pair: the sids of the two of a direct room, in order; a later holder of a name has another.
ALTER TABLE rooms ADD COLUMN kind TEXT NOT NULL DEFAULT 'group';
ALTER TABLE rooms ADD COLUMN history TEXT NOT NULL DEFAULT 'all';
ALTER TABLE rooms ADD COLUMN pair TEXT;
CREATE UNIQUE INDEX direct_rooms ON rooms (pair) WHERE pair IS NOT NULL;

-- invited: whether others put the member into the room. peer: the other of a direct room.
ALTER TABLE members ADD COLUMN invited INTEGER NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN peer TEXT;
CREATE INDEX invitations ON members (username) WHERE invited;
