-- Accounts, members, limits, credit and leases. The tables of the first schema that people manage are
-- made anew with what was in them; the books stay as they are.
CREATE TEMP TABLE old_accounts AS SELECT * FROM accounts;
CREATE TEMP TABLE old_projects AS SELECT * FROM projects;
CREATE TEMP TABLE old_members AS SELECT * FROM members;
CREATE TEMP TABLE old_keys AS SELECT * FROM keys;
CREATE TEMP TABLE old_budgets AS SELECT * FROM budgets;
CREATE TEMP TABLE old_changes AS SELECT * FROM changes;
DROP TABLE keys;
DROP TABLE members;
DROP TABLE projects;
DROP TABLE accounts;
DROP TABLE budgets;
DROP TABLE changes;

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
CREATE TABLE slots (slot TEXT PRIMARY KEY, epoch INTEGER NOT NULL, pid INTEGER NOT NULL,
  seen_at INTEGER NOT NULL) WITHOUT ROWID;   -- workers that live; a higher epoch fences the one before
CREATE TABLE meters (name TEXT PRIMARY KEY, -- scope:ref:model:kind
  used INTEGER NOT NULL,                     -- what a limit's bucket lacked, in millionths of a unit
  at INTEGER NOT NULL, boot TEXT NOT NULL, ns INTEGER NOT NULL) WITHOUT ROWID; -- and when, by both clocks

INSERT INTO accounts (id, public_id, name, created_at) SELECT id, public_id, name, created_at FROM old_accounts;
INSERT INTO projects (id, public_id, account, name, created_at)
  SELECT id, public_id, account, name, created_at FROM old_projects;
INSERT INTO members (id, public_id, account, name, role, created_at)
  SELECT id, public_id, account, name, role, created_at FROM old_members;
INSERT INTO keys (id, public_id, digest, project, member, kind, name, shown, rpm, tpm, concurrency, created_at,
  expires_at, revoked_at)
  SELECT id, public_id, digest, project, member, kind, name, shown, rpm, tpm, concurrency, created_at,
  expires_at, revoked_at FROM old_keys;
INSERT INTO budgets (id, public_id, scope, ref, book, amount, unit, tz, origin, created_at)
  SELECT id, public_id, scope, ref, book, amount, unit, tz, origin, created_at FROM old_budgets;
INSERT INTO changes SELECT * FROM old_changes;
DROP TABLE old_accounts;
DROP TABLE old_projects;
DROP TABLE old_members;
DROP TABLE old_keys;
DROP TABLE old_budgets;
DROP TABLE old_changes;
CREATE TRIGGER postings_keep_update BEFORE UPDATE ON postings BEGIN SELECT RAISE(ABORT, 'postings are append-only'); END;
CREATE TRIGGER postings_keep_delete BEFORE DELETE ON postings BEGIN SELECT RAISE(ABORT, 'postings are append-only'); END;
