-- Attempts that failed after they had begun to answer.
-- what attempts used that failed after they had begun to answer: we owe it, the caller does not
CREATE TABLE lost (call BLOB NOT NULL, attempt INTEGER NOT NULL,
  provider INTEGER NOT NULL, upstream INTEGER NOT NULL, estimated INTEGER NOT NULL,
  input INTEGER NOT NULL, output INTEGER NOT NULL, cached INTEGER NOT NULL, cache_write INTEGER NOT NULL,
  reasoning INTEGER NOT NULL, input_audio INTEGER NOT NULL, output_audio INTEGER NOT NULL,
  costs INTEGER NOT NULL,                  -- price_rows: the provider's; 0: unpriced
  PRIMARY KEY (call, attempt)) WITHOUT ROWID;
CREATE TRIGGER lost_keep_update BEFORE UPDATE ON lost BEGIN SELECT RAISE(ABORT, 'lost is append-only'); END;
CREATE TRIGGER lost_keep_delete BEFORE DELETE ON lost BEGIN SELECT RAISE(ABORT, 'lost is append-only'); END;
