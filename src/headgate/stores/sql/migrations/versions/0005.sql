-- Videos that are being made, or were.
CREATE TABLE videos (id TEXT PRIMARY KEY, project INTEGER NOT NULL, slot INTEGER NOT NULL, -- whose worker asks for it
  created_at INTEGER NOT NULL, open INTEGER NOT NULL, deleted INTEGER NOT NULL,
  job TEXT NOT NULL) WITHOUT ROWID;                                      -- JSON: what was asked, where it is made, what came of it
CREATE INDEX videos_listed ON videos (project, created_at);
CREATE INDEX videos_open ON videos (slot) WHERE open = 1;
