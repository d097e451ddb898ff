-- Several data folders on one database.
CREATE TABLE nodes (node TEXT PRIMARY KEY,  -- a data folder on a database that it shares: its name
  token TEXT NOT NULL,                       -- and what it is told from another folder of the same name by
  place TEXT NOT NULL,                       -- the machine, since its start, and the file: whose lock proves who lives
  told TEXT NOT NULL,                        -- JSON for people: host, process, version
  started_at INTEGER NOT NULL) WITHOUT ROWID;
ALTER TABLE videos ADD COLUMN node TEXT NOT NULL DEFAULT '';
