-- The schema of the books, as `alembic upgrade head` leaves it on an empty SQLite file (a test compares
-- them). A new data folder starts from this file, so serving never imports Alembic.
-- Money is integer nano-USD, wall time integer microseconds UTC, ids of calls 16 bytes (UUIDv7).
-- book: 0 real, 1 sim.

CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
-- schema, pepper_fingerprint, ever_had_provider, created_at

-- ── who ──────────────────────────────────────────────────────────────────────────────────────────
CREATE TABLE accounts (id INTEGER PRIMARY KEY, public_id TEXT NOT NULL UNIQUE, name TEXT NOT NULL,
  created_at INTEGER NOT NULL);
CREATE TABLE projects (id INTEGER PRIMARY KEY, public_id TEXT NOT NULL UNIQUE,
  account INTEGER NOT NULL REFERENCES accounts (id), name TEXT NOT NULL, created_at INTEGER NOT NULL);
CREATE TABLE members (id INTEGER PRIMARY KEY, public_id TEXT NOT NULL UNIQUE,
  account INTEGER NOT NULL REFERENCES accounts (id), name TEXT NOT NULL, role TEXT NOT NULL,
  created_at INTEGER NOT NULL);
CREATE TABLE keys (id INTEGER PRIMARY KEY, public_id TEXT NOT NULL UNIQUE,
  digest BLOB NOT NULL UNIQUE,             -- HMAC-SHA-256 of the whole key under the pepper
  project INTEGER NOT NULL REFERENCES projects (id), member INTEGER NOT NULL DEFAULT 0,
  kind TEXT NOT NULL,                      -- live, test, admin
  name TEXT NOT NULL, shown TEXT NOT NULL, -- prefix and last four characters, for people
  rpm INTEGER NOT NULL DEFAULT 0, tpm INTEGER NOT NULL DEFAULT 0, concurrency INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL DEFAULT 0, revoked_at INTEGER NOT NULL DEFAULT 0);
CREATE TABLE budgets (id INTEGER PRIMARY KEY, public_id TEXT NOT NULL UNIQUE,
  scope TEXT NOT NULL, ref INTEGER NOT NULL, -- account, project or key, and its id
  book INTEGER NOT NULL, amount INTEGER NOT NULL,
  unit TEXT NOT NULL, tz TEXT NOT NULL,      -- day, week, month, total
  origin TEXT NOT NULL,                      -- flag, config or a member's public id
  created_at INTEGER NOT NULL);
CREATE TABLE changes (seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, ref TEXT NOT NULL,
  at INTEGER NOT NULL);

-- ── the books: written by the drain alone ────────────────────────────────────────────────────────
CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE); -- models, providers, operations
CREATE TABLE price_rows (id INTEGER PRIMARY KEY, prices TEXT NOT NULL UNIQUE); -- JSON array of values.Prices
CREATE TABLE calls (call BLOB PRIMARY KEY,
  seq INTEGER NOT NULL,                    -- order within the book, given by the drain, no gaps
  book INTEGER NOT NULL, account INTEGER NOT NULL, project INTEGER NOT NULL, key INTEGER NOT NULL,
  member INTEGER NOT NULL, parent BLOB, attempt INTEGER NOT NULL,
  operation INTEGER NOT NULL, model INTEGER NOT NULL, provider INTEGER NOT NULL, upstream INTEGER NOT NULL,
  opened_at INTEGER NOT NULL, settled_at INTEGER NOT NULL, status INTEGER NOT NULL,
  flags INTEGER NOT NULL,                  -- 1 estimated, 2 unpriced, 4 streamed, 8 recovered
  input INTEGER NOT NULL, output INTEGER NOT NULL, cached INTEGER NOT NULL, cache_write INTEGER NOT NULL,
  reasoning INTEGER NOT NULL, input_audio INTEGER NOT NULL, output_audio INTEGER NOT NULL,
  prices INTEGER NOT NULL, costs INTEGER NOT NULL, -- price_rows: the customer's, the provider's; 0: unpriced
  hold INTEGER NOT NULL, charge INTEGER NOT NULL, absorbed INTEGER NOT NULL, cost INTEGER NOT NULL,
  first_byte_us INTEGER NOT NULL, duration_us INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE books (book INTEGER PRIMARY KEY, seq INTEGER NOT NULL); -- the last `calls.seq` of each book
CREATE TABLE ledger_accounts (id INTEGER PRIMARY KEY, code TEXT NOT NULL, -- credit:1, revenue, cost, payable:openai, house:absorbed
  book INTEGER NOT NULL, UNIQUE (code, book));
CREATE TABLE entries (call BLOB NOT NULL, kind INTEGER NOT NULL, -- 1 settlement, 2 provider cost, 3 absorbed
  attempt INTEGER NOT NULL, n INTEGER NOT NULL,
  book INTEGER NOT NULL, debit INTEGER NOT NULL, credit INTEGER NOT NULL, amount INTEGER NOT NULL,
  PRIMARY KEY (call, kind, attempt, n)) WITHOUT ROWID;
CREATE TABLE balances (ledger_account INTEGER PRIMARY KEY, debits INTEGER NOT NULL, credits INTEGER NOT NULL);
CREATE TABLE usage_hours (hour INTEGER NOT NULL, book INTEGER NOT NULL, account INTEGER NOT NULL,
  project INTEGER NOT NULL, key INTEGER NOT NULL, model INTEGER NOT NULL, provider INTEGER NOT NULL,
  calls INTEGER NOT NULL, failed INTEGER NOT NULL, estimated INTEGER NOT NULL,
  input INTEGER NOT NULL, output INTEGER NOT NULL, cached INTEGER NOT NULL,
  charge INTEGER NOT NULL, cost INTEGER NOT NULL,
  PRIMARY KEY (hour, book, account, project, key, model, provider)) WITHOUT ROWID;
CREATE TABLE drains (slot TEXT PRIMARY KEY, segment INTEGER NOT NULL, offset INTEGER NOT NULL) WITHOUT ROWID;
-- how far each journal has been copied

CREATE TRIGGER calls_keep_update BEFORE UPDATE ON calls BEGIN SELECT RAISE(ABORT, 'calls are append-only'); END;
CREATE TRIGGER calls_keep_delete BEFORE DELETE ON calls BEGIN SELECT RAISE(ABORT, 'calls are append-only'); END;
CREATE TRIGGER entries_keep_update BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'entries are append-only'); END;
CREATE TRIGGER entries_keep_delete BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'entries are append-only'); END;
