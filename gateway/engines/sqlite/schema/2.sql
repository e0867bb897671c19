-- Messages that the log has no more, but whose sender may not know yet that they were kept.
CREATE TABLE trimmed_messages (
    room_id    INTEGER NOT NULL REFERENCES rooms (id),
    origin     TEXT NOT NULL,
    message_id TEXT NOT NULL,
    position   INTEGER NOT NULL,
    ts         INTEGER NOT NULL,
    PRIMARY KEY (room_id, origin, message_id)
) WITHOUT ROWID;
CREATE INDEX trimmed_messages_by_age ON trimmed_messages (ts);
