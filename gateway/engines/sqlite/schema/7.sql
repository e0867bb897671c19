-- attached_at: when the session was last attached to a connection, in the store's running time (ms).
ALTER TABLE sessions ADD COLUMN attached_at INTEGER NOT NULL DEFAULT 0;
