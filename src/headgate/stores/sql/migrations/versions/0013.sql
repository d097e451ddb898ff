-- What is left of calls that were dropped, and how far: their entries stay.
CREATE TABLE horizon (n INTEGER PRIMARY KEY, -- 1, once calls were dropped
  before BLOB NOT NULL,                      -- ids below it are of calls that were dropped, or came too late for that
  lost INTEGER NOT NULL);                    -- how many failed attempts of theirs are in `lost`
CREATE TABLE dropped_numbers (book INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, -- of `calls.seq`
  PRIMARY KEY (book, first)) WITHOUT ROWID;
CREATE TABLE dropped_hours (hour INTEGER NOT NULL, book INTEGER NOT NULL, account INTEGER NOT NULL,
  project INTEGER NOT NULL, member INTEGER NOT NULL, key INTEGER NOT NULL, operation INTEGER NOT NULL,
  model INTEGER NOT NULL, provider INTEGER NOT NULL,
  calls INTEGER NOT NULL, failed INTEGER NOT NULL, estimated INTEGER NOT NULL,
  input INTEGER NOT NULL, output INTEGER NOT NULL, cached INTEGER NOT NULL, cache_write INTEGER NOT NULL,
  input_audio INTEGER NOT NULL, output_audio INTEGER NOT NULL,
  charge INTEGER NOT NULL, absorbed INTEGER NOT NULL, cost INTEGER NOT NULL,
  PRIMARY KEY (hour, book, account, project, member, key, operation, model, provider)) WITHOUT ROWID;
CREATE TABLE dropped_units (hour INTEGER NOT NULL, book INTEGER NOT NULL, account INTEGER NOT NULL,
  project INTEGER NOT NULL, member INTEGER NOT NULL, key INTEGER NOT NULL, model INTEGER NOT NULL,
  provider INTEGER NOT NULL, unit TEXT NOT NULL, used INTEGER NOT NULL,
  PRIMARY KEY (hour, book, account, project, member, key, model, provider, unit)) WITHOUT ROWID;
CREATE TABLE dropped_entries (kind INTEGER NOT NULL, debit INTEGER NOT NULL, credit INTEGER NOT NULL,
  entries INTEGER NOT NULL, amount INTEGER NOT NULL, PRIMARY KEY (kind, debit, credit)) WITHOUT ROWID;
DROP TRIGGER calls_keep_delete;
CREATE TRIGGER calls_keep_delete BEFORE DELETE ON calls
  WHEN NOT EXISTS (SELECT 1 FROM horizon WHERE OLD.call < before) BEGIN SELECT RAISE(ABORT, 'calls are append-only'); END;
