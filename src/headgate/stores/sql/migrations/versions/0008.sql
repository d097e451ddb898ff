-- Files, what is being put together into one, and where their bytes are.
CREATE TABLE files (id TEXT PRIMARY KEY, account INTEGER NOT NULL, project INTEGER NOT NULL, book INTEGER NOT NULL,
  key INTEGER NOT NULL, purpose TEXT NOT NULL, filename TEXT NOT NULL, -- its user's name for it: only data
  kind TEXT NOT NULL, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL,
  created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL) WITHOUT ROWID; -- 0: never
CREATE INDEX files_listed ON files (project, created_at);
CREATE INDEX files_expiring ON files (expires_at) WHERE expires_at > 0;
CREATE TABLE uploads (id TEXT PRIMARY KEY, account INTEGER NOT NULL, project INTEGER NOT NULL, book INTEGER NOT NULL,
  key INTEGER NOT NULL, purpose TEXT NOT NULL, filename TEXT NOT NULL, kind TEXT NOT NULL,
  bytes INTEGER NOT NULL, kept_s INTEGER NOT NULL, -- how long its file will be kept; 0: for ever
  created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL,
  status INTEGER NOT NULL, file TEXT NOT NULL) WITHOUT ROWID; -- 0 pending, 1 completed, 2 cancelled, 3 expired
CREATE INDEX uploads_pending ON uploads (expires_at) WHERE status = 0;
CREATE TABLE blobs (blob TEXT PRIMARY KEY, account INTEGER NOT NULL, project INTEGER NOT NULL,
  holder TEXT NOT NULL, n INTEGER NOT NULL, -- the file or upload that it is a part of, and the how manieth
  bytes INTEGER NOT NULL,                  -- while it is written: the most that it may become
  state INTEGER NOT NULL,                  -- 0 being written, 1 kept, 2 to be removed
  writer TEXT NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID; -- who writes it, and since when
CREATE INDEX blobs_held ON blobs (holder, n);
CREATE INDEX blobs_projects ON blobs (project, bytes) WHERE state <> 2;
CREATE INDEX blobs_accounts ON blobs (account, bytes) WHERE state <> 2;
CREATE INDEX blobs_loose ON blobs (state, at) WHERE state <> 1;
