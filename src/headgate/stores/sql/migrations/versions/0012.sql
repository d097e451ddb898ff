-- Recorded answers, where several data folders share this database; else they are in a file beside it.
CREATE TABLE recordings (call BLOB PRIMARY KEY, -- 16 bytes: the call that is recorded
  name BLOB NOT NULL UNIQUE,                 -- keyed digest: of tenant and Idempotency-Key, or of the call
  request BLOB NOT NULL,                     -- keyed digest of what was asked
  project INTEGER NOT NULL, book INTEGER NOT NULL, keyed INTEGER NOT NULL, resume_s INTEGER NOT NULL,
  node TEXT NOT NULL, slot INTEGER NOT NULL, -- whose worker records; node '': nobody's, its journal is lost
  state INTEGER NOT NULL, made_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,               -- when the answer goes; the row stays a day after `made_at`
  resume_until INTEGER NOT NULL,             -- how long it may be read on; 0: not at all
  wanted_until INTEGER NOT NULL DEFAULT 0,   -- how long another worker reads it while it is open, by the database's clock
  charge INTEGER,                            -- of one that was lost: what it has cost; NULL: nobody knows here
  size INTEGER NOT NULL DEFAULT 0, answer BLOB) WITHOUT ROWID; -- sealed; bytes
CREATE INDEX recordings_age ON recordings (project, made_at);
CREATE INDEX recordings_held ON recordings (project, size);
CREATE INDEX recordings_due ON recordings (expires_at);
CREATE INDEX recordings_open ON recordings (node, slot) WHERE state = 0;
CREATE TABLE recording_parts (call BLOB NOT NULL, n INTEGER NOT NULL, part BLOB NOT NULL, -- sealed
  PRIMARY KEY (call, n)) WITHOUT ROWID;
