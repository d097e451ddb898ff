-- The schema of the books, as `alembic upgrade head` leaves it on an empty SQLite file (a test compares
-- them). A new data folder starts from this file, so serving never imports Alembic.
-- Money is integer nano-USD, wall time integer microseconds UTC, ids of calls 16 bytes (UUIDv7).
-- book: 0 real, 1 sim.

CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
-- schema, pepper_fingerprint, ever_had_provider, created_at

-- ── who ──────────────────────────────────────────────────────────────────────────────────────────
CREATE TABLE accounts (id INTEGER PRIMARY KEY, public_id TEXT NOT NULL UNIQUE, name TEXT NOT NULL,
  status TEXT NOT NULL DEFAULT 'active',     -- active, suspended, closed
  prepaid INTEGER NOT NULL DEFAULT 0,        -- 1: spends credit (grants) and nothing else
  tier TEXT NOT NULL DEFAULT '',             -- a name of the tier table; empty: no tier limits
  tier_fixed INTEGER NOT NULL DEFAULT 0,     -- 1: chosen by a person, never promoted automatically
  multiplier_ppm INTEGER NOT NULL DEFAULT 1000000, -- of every price: resale margin or discount
  first_paid_at INTEGER NOT NULL DEFAULT 0,  -- of the first paid top-up; 0: none yet
  metadata TEXT NOT NULL DEFAULT '{}', created_at INTEGER NOT NULL);
CREATE TABLE projects (id INTEGER PRIMARY KEY, public_id TEXT NOT NULL UNIQUE,
  account INTEGER NOT NULL REFERENCES accounts (id), name TEXT NOT NULL,
  environment TEXT NOT NULL DEFAULT '',      -- production, staging, development, ...
  archived_at INTEGER NOT NULL DEFAULT 0, metadata TEXT NOT NULL DEFAULT '{}', created_at INTEGER NOT NULL);
CREATE TABLE members (id INTEGER PRIMARY KEY, public_id TEXT NOT NULL UNIQUE,
  account INTEGER NOT NULL REFERENCES accounts (id), name TEXT NOT NULL,
  email TEXT NOT NULL DEFAULT '',            -- in lower case; empty for service accounts
  role TEXT NOT NULL,                        -- owner, admin, billing, developer, viewer, auditor
  project INTEGER NOT NULL DEFAULT 0,        -- a service account's only project; 0: a person
  removed_at INTEGER NOT NULL DEFAULT 0, metadata TEXT NOT NULL DEFAULT '{}', created_at INTEGER NOT NULL);
CREATE UNIQUE INDEX members_email ON members (account, email) WHERE email <> '' AND removed_at = 0;
CREATE TABLE project_members (project INTEGER NOT NULL REFERENCES projects (id),
  member INTEGER NOT NULL REFERENCES members (id), role TEXT NOT NULL, -- owner, member
  created_at INTEGER NOT NULL, PRIMARY KEY (project, member)) WITHOUT ROWID;
CREATE TABLE keys (id INTEGER PRIMARY KEY, public_id TEXT NOT NULL UNIQUE,
  digest BLOB NOT NULL UNIQUE,               -- HMAC-SHA-256 of the whole key under the pepper
  old_digest BLOB UNIQUE,                    -- of the secret before the last rotation
  old_until INTEGER NOT NULL DEFAULT 0,      -- and until when that one is valid
  project INTEGER NOT NULL REFERENCES projects (id), member INTEGER NOT NULL DEFAULT 0,
  kind TEXT NOT NULL,                        -- live, test, admin
  name TEXT NOT NULL, shown TEXT NOT NULL,   -- prefix and last four characters, for people
  models TEXT NOT NULL DEFAULT '[]',         -- patterns of the models that it may call; []: all
  endpoints TEXT NOT NULL DEFAULT '[]',      -- operations that it may call; []: all
  networks TEXT NOT NULL DEFAULT '[]',       -- CIDRs it may call from; []: everywhere
  rights TEXT NOT NULL DEFAULT '[]',         -- of an admin key: permissions; []: those of its member's role
  rpm INTEGER NOT NULL DEFAULT 0, tpm INTEGER NOT NULL DEFAULT 0, rpd INTEGER NOT NULL DEFAULT 0,
  tpd INTEGER NOT NULL DEFAULT 0, concurrency INTEGER NOT NULL DEFAULT 0,
  queue_ms INTEGER NOT NULL DEFAULT 0,       -- how long its calls may wait for a limit; 0: 429 at once
  priority TEXT NOT NULL DEFAULT 'interactive', -- interactive, batch
  metadata TEXT NOT NULL DEFAULT '{}', created_by TEXT NOT NULL DEFAULT '',
  created_at INTEGER NOT NULL, rotated_at INTEGER NOT NULL DEFAULT 0, expires_at INTEGER NOT NULL DEFAULT 0,
  revoked_at INTEGER NOT NULL DEFAULT 0);
CREATE INDEX keys_project ON keys (project, id);
CREATE TABLE key_uses (key INTEGER PRIMARY KEY, used_at INTEGER NOT NULL); -- the last call of each key
CREATE TABLE limits (id INTEGER PRIMARY KEY, public_id TEXT NOT NULL UNIQUE,
  scope TEXT NOT NULL, ref INTEGER NOT NULL, -- account, project or key, and its id
  model TEXT NOT NULL DEFAULT '',            -- a model or pattern with meters of its own; empty: all models
  rpm INTEGER NOT NULL DEFAULT 0, tpm INTEGER NOT NULL DEFAULT 0, rpd INTEGER NOT NULL DEFAULT 0,
  tpd INTEGER NOT NULL DEFAULT 0, concurrency INTEGER NOT NULL DEFAULT 0, -- 0: no limit
  origin TEXT NOT NULL, created_at INTEGER NOT NULL, UNIQUE (scope, ref, model));
CREATE TABLE budgets (id INTEGER PRIMARY KEY, public_id TEXT NOT NULL UNIQUE,
  scope TEXT NOT NULL, ref INTEGER NOT NULL, -- account, project or key, and its id
  book INTEGER NOT NULL, amount INTEGER NOT NULL,
  unit TEXT NOT NULL, tz TEXT NOT NULL,      -- day, week, month, total
  hard INTEGER NOT NULL DEFAULT 1,           -- 0: tells, and refuses nothing
  thresholds TEXT NOT NULL DEFAULT '[50,80,100]', -- per cent at which an event is written
  origin TEXT NOT NULL,                      -- flag, config, tier or a member's public id
  created_at INTEGER NOT NULL);
CREATE INDEX budgets_of ON budgets (scope, ref, book);
CREATE TABLE changes (seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, ref TEXT NOT NULL,
  at INTEGER NOT NULL);
CREATE TABLE audit (seq INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL,
  account INTEGER NOT NULL,                  -- whose object it is; 0: the gateway's
  actor TEXT NOT NULL, action TEXT NOT NULL, -- key.created
  kind TEXT NOT NULL, ref TEXT NOT NULL,     -- the object's kind and public id
  outcome TEXT NOT NULL,                     -- done, refused
  detail TEXT NOT NULL);                     -- JSON: what changed, without secrets
CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, account INTEGER NOT NULL,
  kind TEXT NOT NULL,                        -- budget.threshold, key.old, tier.promoted, grant.expired, ...
  ref TEXT NOT NULL, name TEXT NOT NULL UNIQUE, -- what makes it happen only once
  detail TEXT NOT NULL);                     -- JSON
CREATE TABLE replies (actor TEXT NOT NULL, key TEXT NOT NULL, -- Idempotency-Key of a write, and who sent it
  request BLOB NOT NULL, status INTEGER NOT NULL, body BLOB NOT NULL, at INTEGER NOT NULL,
  PRIMARY KEY (actor, key)) WITHOUT ROWID;
CREATE TABLE secrets (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, -- a provider's key, sealed
  host TEXT NOT NULL, version INTEGER NOT NULL, wrapped BLOB NOT NULL, nonce BLOB NOT NULL,
  sealed BLOB NOT NULL, created_at INTEGER NOT NULL);

-- ── credit ───────────────────────────────────────────────────────────────────────────────────────
CREATE TABLE grants (id INTEGER PRIMARY KEY, public_id TEXT NOT NULL UNIQUE,
  account INTEGER NOT NULL REFERENCES accounts (id), book INTEGER NOT NULL,
  kind TEXT NOT NULL,                        -- balance (paid, one per account and book), signup, gift, code
  model TEXT NOT NULL DEFAULT '',            -- of a grant in tokens: the model that it is for
  tokens INTEGER NOT NULL DEFAULT 0,         -- of a grant in tokens; its amount is then 0
  expires_at INTEGER NOT NULL DEFAULT 0,     -- 0: never
  closed_at INTEGER NOT NULL DEFAULT 0,      -- when the rest was booked as expired
  note TEXT NOT NULL DEFAULT '', created_at INTEGER NOT NULL);
CREATE UNIQUE INDEX grants_balance ON grants (account, book) WHERE kind = 'balance';
CREATE INDEX grants_account ON grants (account, closed_at);
CREATE INDEX grants_open ON grants (expires_at) WHERE closed_at = 0 AND expires_at > 0;
CREATE TABLE postings (id BLOB PRIMARY KEY,  -- UUIDv7: the `call` of its entries
  seq INTEGER NOT NULL UNIQUE, book INTEGER NOT NULL, account INTEGER NOT NULL, grant_id INTEGER NOT NULL,
  kind TEXT NOT NULL,                        -- topup, grant, expiry, refund, adjustment
  amount INTEGER NOT NULL,                   -- nano-USD, added to the grant (below zero: taken from it)
  tokens INTEGER NOT NULL DEFAULT 0,         -- the same of a grant in tokens
  debt INTEGER NOT NULL DEFAULT 0,           -- nano-USD, added to what the account owes (below zero: paid back)
  reference TEXT NOT NULL UNIQUE,            -- source:name, what makes it happen only once
  actor TEXT NOT NULL, note TEXT NOT NULL DEFAULT '', at INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX postings_account ON postings (account, book, seq);
CREATE TABLE codes (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, -- HMAC-SHA-256 of the code
  public_id TEXT NOT NULL UNIQUE, shown TEXT NOT NULL,
  book INTEGER NOT NULL, amount INTEGER NOT NULL, tokens INTEGER NOT NULL DEFAULT 0,
  model TEXT NOT NULL DEFAULT '', valid_days INTEGER NOT NULL DEFAULT 0, -- of the grant; 0: for ever
  expires_at INTEGER NOT NULL DEFAULT 0, revoked_at INTEGER NOT NULL DEFAULT 0,
  redeemed_at INTEGER NOT NULL DEFAULT 0, redeemed_by INTEGER NOT NULL DEFAULT 0,
  created_by TEXT NOT NULL, created_at INTEGER NOT NULL);
CREATE TABLE payments (id INTEGER PRIMARY KEY, event TEXT NOT NULL UNIQUE, -- the payment provider's id of its event
  source TEXT NOT NULL, reference TEXT NOT NULL, account INTEGER NOT NULL, kind TEXT NOT NULL,
  amount INTEGER NOT NULL, currency TEXT NOT NULL, outcome TEXT NOT NULL, at INTEGER NOT NULL);
CREATE TABLE signups (id INTEGER PRIMARY KEY, public_id TEXT NOT NULL UNIQUE,
  email TEXT NOT NULL UNIQUE,                -- in lower case: one account per address
  name TEXT NOT NULL, digest BLOB NOT NULL UNIQUE, -- of the token in the last mail
  expires_at INTEGER NOT NULL, mails INTEGER NOT NULL DEFAULT 1, verified_at INTEGER NOT NULL DEFAULT 0, account INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL);
CREATE TABLE limit_requests (id INTEGER PRIMARY KEY, public_id TEXT NOT NULL UNIQUE,
  account INTEGER NOT NULL REFERENCES accounts (id), member INTEGER NOT NULL,
  wanted TEXT NOT NULL, reason TEXT NOT NULL, -- JSON of a limit, or a tier's name
  status TEXT NOT NULL,                      -- open, approved, refused
  decided_by TEXT NOT NULL DEFAULT '', decided_at INTEGER NOT NULL DEFAULT 0, created_at INTEGER NOT NULL);

-- ── leases: who may spend what (admission/leases.py) ─────────────────────────────────────────────
CREATE TABLE pots (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, -- budget, grant, tokens
  ref INTEGER NOT NULL, period TEXT NOT NULL, -- the budget's or grant's id; `2026-11@UTC`, empty for grants
  book INTEGER NOT NULL, since INTEGER NOT NULL, until INTEGER NOT NULL, -- calls opened in [since, until)
  amount INTEGER NOT NULL,                   -- the cap, or all that was ever granted
  spent INTEGER NOT NULL,                    -- by settled calls, moved by the drain alone
  over INTEGER NOT NULL DEFAULT 0,           -- what was out above the amount when it was lowered; comes back
  recall INTEGER NOT NULL DEFAULT 0,         -- numbered over all pots; set when a taker found too little
  UNIQUE (kind, ref, period));
CREATE INDEX pots_recall ON pots (recall) WHERE recall > 0;
CREATE TABLE slices (pot INTEGER NOT NULL REFERENCES pots (id), slot TEXT NOT NULL,
  amount INTEGER NOT NULL CHECK (amount >= 0), -- may be spent, or is spent and not drained
  answered INTEGER NOT NULL DEFAULT 0,       -- the last recall that its owner has answered
  PRIMARY KEY (pot, slot)) WITHOUT ROWID;
-- workers that live: a higher epoch fences the one before; `turn` is the last exchange that was applied, `given` what it
-- granted (JSON: nano-USD or tokens by pot), for a worker that lost its answer
CREATE TABLE slots (slot TEXT PRIMARY KEY, epoch INTEGER NOT NULL, pid INTEGER NOT NULL,
  seen_at INTEGER NOT NULL, turn INTEGER NOT NULL DEFAULT 0, given TEXT NOT NULL DEFAULT '') WITHOUT ROWID;
-- A slot is `slot-0`, or `NODE/slot-0` where several data folders share this database.
CREATE TABLE nodes (node TEXT PRIMARY KEY,  -- a data folder on a database that it shares: its name
  token TEXT NOT NULL,                       -- and what it is told from another folder of the same name by
  place TEXT NOT NULL,                       -- the machine, since its start, and the file: whose lock proves who lives
  told TEXT NOT NULL,                        -- JSON for people: host, process, version
  started_at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE meters (name TEXT PRIMARY KEY, -- scope:ref:model:kind
  used INTEGER NOT NULL,                     -- what a limit's bucket lacked, in millionths of a unit
  at INTEGER NOT NULL, boot TEXT NOT NULL, ns INTEGER NOT NULL) WITHOUT ROWID; -- and when, by both clocks

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
  first_byte_us INTEGER NOT NULL, duration_us INTEGER NOT NULL, more TEXT NOT NULL DEFAULT '') WITHOUT ROWID;
-- more, here and in `lost`: JSON, how much was used of other units than tokens; empty: nothing.
-- Lines that begin so are for PostgreSQL alone: there calls are in months, by their ids, which begin with the time.
--| ALTER TABLE calls ALTER book TYPE SMALLINT, ALTER account TYPE INT, ALTER project TYPE INT, ALTER key TYPE INT,
--|   ALTER member TYPE INT, ALTER attempt TYPE SMALLINT, ALTER operation TYPE INT, ALTER model TYPE INT,
--|   ALTER provider TYPE INT, ALTER upstream TYPE INT, ALTER status TYPE SMALLINT, ALTER flags TYPE SMALLINT,
--|   ALTER input TYPE INT, ALTER output TYPE INT, ALTER cached TYPE INT, ALTER cache_write TYPE INT,
--|   ALTER reasoning TYPE INT, ALTER input_audio TYPE INT, ALTER output_audio TYPE INT,
--|   ALTER prices TYPE INT, ALTER costs TYPE INT;
--| CREATE TABLE calls_next (LIKE calls INCLUDING DEFAULTS, PRIMARY KEY (call)) PARTITION BY RANGE (call);
--| DROP TABLE calls;
--| ALTER TABLE calls_next RENAME TO calls;
--| ALTER INDEX calls_next_pkey RENAME TO calls_pkey;
--| CREATE TABLE calls_rest PARTITION OF calls DEFAULT; -- calls of months that have no table of their own
CREATE INDEX calls_more ON calls (opened_at) WHERE more <> '';
CREATE TABLE books (book INTEGER PRIMARY KEY, seq INTEGER NOT NULL); -- the last `calls.seq` of each book
CREATE TABLE ledger_accounts (id INTEGER PRIMARY KEY, code TEXT NOT NULL, -- credit:1, revenue, cost, payable:openai, house:absorbed
  book INTEGER NOT NULL, UNIQUE (code, book));
-- entries.call is a call or a posting; kinds beyond these: 4 tokens of a grant, 5 posting, 6 posted tokens.
CREATE TABLE entries (call BLOB NOT NULL, kind INTEGER NOT NULL, -- 1 settlement, 2 provider cost, 3 absorbed
  attempt INTEGER NOT NULL, n INTEGER NOT NULL,
  book INTEGER NOT NULL, debit INTEGER NOT NULL, credit INTEGER NOT NULL, amount INTEGER NOT NULL,
  PRIMARY KEY (call, kind, attempt, n)) WITHOUT ROWID;
--| ALTER TABLE entries ALTER kind TYPE SMALLINT, ALTER attempt TYPE SMALLINT, ALTER n TYPE SMALLINT,
--|   ALTER book TYPE SMALLINT, ALTER debit TYPE INT, ALTER credit TYPE INT;
-- what attempts used that failed after they had begun to answer: we owe it, the caller does not
CREATE TABLE lost (call BLOB NOT NULL, attempt INTEGER NOT NULL,
  provider INTEGER NOT NULL, upstream INTEGER NOT NULL, estimated INTEGER NOT NULL,
  input INTEGER NOT NULL, output INTEGER NOT NULL, cached INTEGER NOT NULL, cache_write INTEGER NOT NULL,
  reasoning INTEGER NOT NULL, input_audio INTEGER NOT NULL, output_audio INTEGER NOT NULL,
  costs INTEGER NOT NULL, more TEXT NOT NULL DEFAULT '',                  -- price_rows: the provider's; 0: unpriced
  PRIMARY KEY (call, attempt)) WITHOUT ROWID;
CREATE TABLE balances (ledger_account INTEGER PRIMARY KEY, debits INTEGER NOT NULL, credits INTEGER NOT NULL);
CREATE TABLE usage_hours (hour INTEGER NOT NULL, book INTEGER NOT NULL, account INTEGER NOT NULL,
  project INTEGER NOT NULL, key INTEGER NOT NULL, model INTEGER NOT NULL, provider INTEGER NOT NULL,
  calls INTEGER NOT NULL, failed INTEGER NOT NULL, estimated INTEGER NOT NULL,
  input INTEGER NOT NULL, output INTEGER NOT NULL, cached INTEGER NOT NULL,
  charge INTEGER NOT NULL, cost INTEGER NOT NULL,
  PRIMARY KEY (hour, book, account, project, key, model, provider)) WITHOUT ROWID;
CREATE TABLE usage_days (day INTEGER NOT NULL, book INTEGER NOT NULL, account INTEGER NOT NULL,
  project INTEGER NOT NULL, key INTEGER NOT NULL, model INTEGER NOT NULL, provider INTEGER NOT NULL,
  calls INTEGER NOT NULL, failed INTEGER NOT NULL, estimated INTEGER NOT NULL,
  input INTEGER NOT NULL, output INTEGER NOT NULL, cached INTEGER NOT NULL,
  charge INTEGER NOT NULL, cost INTEGER NOT NULL,
  PRIMARY KEY (day, book, account, project, key, model, provider)) WITHOUT ROWID;
-- what is left of calls that were dropped, and how far: their entries stay
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
CREATE TABLE drains (slot TEXT PRIMARY KEY, segment INTEGER NOT NULL, offset INTEGER NOT NULL) WITHOUT ROWID;
-- how far each journal has been copied
-- videos that are being made, or were
CREATE TABLE videos (id TEXT PRIMARY KEY, project INTEGER NOT NULL, slot INTEGER NOT NULL, -- whose worker asks for it
  created_at INTEGER NOT NULL, open INTEGER NOT NULL, deleted INTEGER NOT NULL,
  job TEXT NOT NULL, node TEXT NOT NULL DEFAULT '') WITHOUT ROWID;                                      -- JSON: what was asked, where it is made, what came of it
CREATE INDEX videos_listed ON videos (project, created_at);
CREATE INDEX videos_open ON videos (slot) WHERE open = 1;
-- how targets have done, hour by hour: what workers and the gateway's own probes saw of them
CREATE TABLE uptime (hour INTEGER NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL, -- as the provider calls it
  probe INTEGER NOT NULL, served INTEGER NOT NULL, failed INTEGER NOT NULL,
  PRIMARY KEY (hour, provider, model, probe)) WITHOUT ROWID;
-- files, what is being put together into one, and where their bytes are
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
CREATE TABLE storage (n INTEGER PRIMARY KEY, scope INTEGER NOT NULL, -- 0 project, 1 account
  ref INTEGER NOT NULL, bytes INTEGER NOT NULL); -- what came to its blobs that are not to be removed, or went
CREATE INDEX storage_sums ON storage (scope, ref, bytes);
-- batches, their lines, and the outputs that are not published yet.
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
-- also, with n below 0 and state 4, runs of which nobody knows what they were charged: `stores/sql/doubts.py`
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
-- recorded answers, where several data folders share this database; else they are in a file beside it.
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

CREATE TRIGGER calls_keep_update BEFORE UPDATE ON calls BEGIN SELECT RAISE(ABORT, 'calls are append-only'); END;
CREATE TRIGGER calls_keep_delete BEFORE DELETE ON calls
  WHEN NOT EXISTS (SELECT 1 FROM horizon WHERE OLD.call < before) BEGIN SELECT RAISE(ABORT, 'calls are append-only'); END;
--| CREATE TRIGGER calls_keep_truncate BEFORE TRUNCATE ON calls_rest BEGIN SELECT RAISE(ABORT, 'calls are append-only'); END;
CREATE TRIGGER entries_keep_update BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'entries are append-only'); END;
CREATE TRIGGER entries_keep_delete BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'entries are append-only'); END;
CREATE TRIGGER postings_keep_update BEFORE UPDATE ON postings BEGIN SELECT RAISE(ABORT, 'postings are append-only'); END;
CREATE TRIGGER postings_keep_delete BEFORE DELETE ON postings BEGIN SELECT RAISE(ABORT, 'postings are append-only'); END;
CREATE TRIGGER lost_keep_update BEFORE UPDATE ON lost BEGIN SELECT RAISE(ABORT, 'lost is append-only'); END;
CREATE TRIGGER lost_keep_delete BEFORE DELETE ON lost BEGIN SELECT RAISE(ABORT, 'lost is append-only'); END;
-- Sums of days are kept by the database, whoever writes hours: servers of an earlier version, too.
CREATE TRIGGER usage_days_insert AFTER INSERT ON usage_hours BEGIN
  INSERT INTO usage_days VALUES (NEW.hour / 24, NEW.book, NEW.account, NEW.project, NEW.key, NEW.model, NEW.provider,
    NEW.calls, NEW.failed, NEW.estimated, NEW.input, NEW.output, NEW.cached, NEW.charge, NEW.cost)
  ON CONFLICT (day, book, account, project, key, model, provider) DO UPDATE SET
    calls = usage_days.calls + excluded.calls, failed = usage_days.failed + excluded.failed,
    estimated = usage_days.estimated + excluded.estimated, input = usage_days.input + excluded.input,
    output = usage_days.output + excluded.output, cached = usage_days.cached + excluded.cached,
    charge = usage_days.charge + excluded.charge, cost = usage_days.cost + excluded.cost;
END;
CREATE TRIGGER usage_days_update AFTER UPDATE ON usage_hours BEGIN
  UPDATE usage_days SET calls = calls + NEW.calls - OLD.calls, failed = failed + NEW.failed - OLD.failed,
    estimated = estimated + NEW.estimated - OLD.estimated, input = input + NEW.input - OLD.input,
    output = output + NEW.output - OLD.output, cached = cached + NEW.cached - OLD.cached,
    charge = charge + NEW.charge - OLD.charge, cost = cost + NEW.cost - OLD.cost
  WHERE day = NEW.hour / 24 AND book = NEW.book AND account = NEW.account AND project = NEW.project
    AND key = NEW.key AND model = NEW.model AND provider = NEW.provider;
END;
-- So is noted what projects and accounts keep.
CREATE TRIGGER storage_insert AFTER INSERT ON blobs BEGIN
  INSERT INTO storage (scope, ref, bytes)
  SELECT scope, CASE scope WHEN 0 THEN NEW.project ELSE NEW.account END, NEW.bytes
  FROM (SELECT 0 AS scope UNION ALL SELECT 1) AS scopes WHERE NEW.state <> 2;
END;
CREATE TRIGGER storage_update AFTER UPDATE ON blobs BEGIN
  INSERT INTO storage (scope, ref, bytes)
  SELECT scope, CASE scope WHEN 0 THEN NEW.project ELSE NEW.account END,
    CASE WHEN NEW.state <> 2 THEN NEW.bytes ELSE 0 END - CASE WHEN OLD.state <> 2 THEN OLD.bytes ELSE 0 END
  FROM (SELECT 0 AS scope UNION ALL SELECT 1) AS scopes
  WHERE CASE WHEN NEW.state <> 2 THEN NEW.bytes ELSE 0 END <> CASE WHEN OLD.state <> 2 THEN OLD.bytes ELSE 0 END;
END;
CREATE TRIGGER storage_delete AFTER DELETE ON blobs BEGIN
  INSERT INTO storage (scope, ref, bytes)
  SELECT scope, CASE scope WHEN 0 THEN OLD.project ELSE OLD.account END, -OLD.bytes
  FROM (SELECT 0 AS scope UNION ALL SELECT 1) AS scopes WHERE OLD.state <> 2;
END;
