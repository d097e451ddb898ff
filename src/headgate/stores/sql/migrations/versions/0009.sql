-- Batches, their lines, and the outputs that are not published yet.
CREATE TABLE batches (n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, project INTEGER NOT NULL, book INTEGER NOT NULL,
  key INTEGER NOT NULL, model TEXT NOT NULL DEFAULT '', status TEXT NOT NULL,
  created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL,
  slot TEXT NOT NULL DEFAULT '', epoch INTEGER NOT NULL DEFAULT 0, until INTEGER NOT NULL DEFAULT 0, -- who reads or publishes it
  fence INTEGER NOT NULL DEFAULT 0,        -- grows with each owner
  total INTEGER NOT NULL DEFAULT 0, completed INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0,
  input INTEGER NOT NULL DEFAULT 0, cached INTEGER NOT NULL DEFAULT 0, output INTEGER NOT NULL DEFAULT 0,
  reasoning INTEGER NOT NULL DEFAULT 0, charge INTEGER NOT NULL DEFAULT 0,
  tokens INTEGER NOT NULL DEFAULT 0,       -- of its input, while it is not done: what quotas count
  job TEXT NOT NULL);                      -- JSON: what was asked, when what happened, where its money is
CREATE INDEX batches_listed ON batches (project, created_at);
CREATE INDEX batches_open ON batches (status) WHERE status IN ('validating', 'in_progress', 'cancelling', 'finalizing');
CREATE TABLE batch_lines (batch INTEGER NOT NULL, n INTEGER NOT NULL,
  at INTEGER NOT NULL, size INTEGER NOT NULL, custom_id TEXT NOT NULL, -- where it is in the input file
  start INTEGER NOT NULL, bound INTEGER NOT NULL, -- its part of the batch's money
  state INTEGER NOT NULL DEFAULT 0,        -- 0 waiting, 1 running, 2 answered, 3 failed
  slot TEXT NOT NULL DEFAULT '', epoch INTEGER NOT NULL DEFAULT 0, until INTEGER NOT NULL DEFAULT 0, -- who runs it
  fence INTEGER NOT NULL DEFAULT 0,        -- grows with each owner
  call BLOB, tries INTEGER NOT NULL DEFAULT 0, due INTEGER NOT NULL DEFAULT 0,
  paid INTEGER NOT NULL DEFAULT 0, unsure INTEGER NOT NULL DEFAULT 0,
  seq INTEGER NOT NULL DEFAULT 0,          -- in which order the lines were done; 0: it is not
  output BLOB,
  PRIMARY KEY (batch, n));
CREATE INDEX batch_lines_state ON batch_lines (batch, state, n);
CREATE INDEX batch_lines_done ON batch_lines (batch, seq) WHERE seq > 0;
CREATE INDEX batch_lines_running ON batch_lines (slot) WHERE state = 1;
