-- claimed_at: when the client came that was the last to get the session, in the store's running time (ms); 0 if that
-- was before the store was opened.
ALTER TABLE sessions ADD COLUMN claimed_at INTEGER NOT NULL DEFAULT 0;
