ALTER TABLE calls ATTACH PARTITION calls_2026_11 FOR VALUES FROM ('\x01a19467e80000000000000000000000') TO ('\x01a22ee6b00000000000000000000000')
ALTER TABLE calls ATTACH PARTITION calls_2026_12 FOR VALUES FROM ('\x01a22ee6b00000000000000000000000') TO ('\x01a2ce8bd40000000000000000000000')
ALTER TABLE calls ATTACH PARTITION calls_2027_01 FOR VALUES FROM ('\x01a2ce8bd40000000000000000000000') TO ('\x01a36e30f80000000000000000000000')
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))
CREATE TABLE calls_2026_11 (LIKE calls INCLUDING DEFAULTS)
CREATE TABLE calls_2026_12 (LIKE calls INCLUDING DEFAULTS)
CREATE TABLE calls_2027_01 (LIKE calls INCLUDING DEFAULTS)
CREATE TRIGGER calls_keep_truncate BEFORE TRUNCATE ON calls_2026_11 FOR EACH STATEMENT EXECUTE FUNCTION headgate_refuse('calls are append-only')
CREATE TRIGGER calls_keep_truncate BEFORE TRUNCATE ON calls_2026_12 FOR EACH STATEMENT EXECUTE FUNCTION headgate_refuse('calls are append-only')
CREATE TRIGGER calls_keep_truncate BEFORE TRUNCATE ON calls_2027_01 FOR EACH STATEMENT EXECUTE FUNCTION headgate_refuse('calls are append-only')
DELETE FROM batch_lines WHERE state = 4 AND batch IN (SELECT n FROM batches WHERE 'batch-' || n NOT IN (SELECT slot FROM slices))
DELETE FROM pots WHERE kind IN ('budget', $1) AND NOT EXISTS (SELECT 1 FROM slices WHERE pot = pots.id)
DELETE FROM pots WHERE until <= $1 AND kind IN ('budget', $2) AND NOT EXISTS (SELECT 1 FROM slices WHERE pot = pots.id) AND (recall = 0 OR recall < (SELECT max(recall) FROM pots))
DELETE FROM recording_parts p WHERE NOT EXISTS (SELECT 1 FROM recordings r WHERE r.call = p.call AND r.state = 0)
DELETE FROM recordings WHERE call IN (SELECT call FROM recordings WHERE expires_at <= $1 AND (made_at + $2 <= $1 OR state = 5) LIMIT 20 FOR UPDATE SKIP LOCKED)
DELETE FROM slices WHERE (amount = 0 OR slot = $1) AND pot IN (SELECT id FROM pots WHERE until <= $2)
DELETE FROM slices WHERE slot = $1
DELETE FROM uptime WHERE hour < $1
INSERT INTO accounts (public_id, name, created_at) VALUES ($1, 'default', $2)
INSERT INTO accounts (public_id, name, prepaid, created_at) VALUES ($1, 'a', $2, 0) RETURNING id
INSERT INTO alembic_version VALUES ($1)
INSERT INTO balances VALUES ($1, $2, $3) ON CONFLICT (ledger_account) DO UPDATE SET debits = balances.debits + excluded.debits, credits = balances.credits + excluded.credits
INSERT INTO books VALUES ($1, $2) ON CONFLICT (book) DO UPDATE SET seq = excluded.seq
INSERT INTO budgets (public_id, scope, ref, book, amount, unit, tz, origin, created_at) VALUES ($1, $2, $3, 0, $4, $5, $6, 'test', 0) RETURNING id
INSERT INTO changes (kind, ref, at) VALUES ($1, $2, $3)
INSERT INTO changes (kind, ref, at) VALUES ($1, $2, 0)
INSERT INTO drains VALUES ($1, $2, $3) ON CONFLICT (slot) DO UPDATE SET segment = excluded.segment, "offset" = excluded."offset"
INSERT INTO entries VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
INSERT INTO events (at, account, kind, ref, name, detail) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING
INSERT INTO events (at, account, kind, ref, name, detail) VALUES ($1, $2, 'budget.threshold', $3, $4, $5) ON CONFLICT DO NOTHING
INSERT INTO grants (public_id, account, book, kind, model, tokens, expires_at, note, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING id
INSERT INTO key_uses VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET used_at = max(key_uses.used_at, excluded.used_at)
INSERT INTO keys (public_id, digest, project, kind, name, shown, created_at) VALUES ($1, $2, $3, 'live', 'first', $4, $5)
INSERT INTO keys (public_id, digest, project, kind, name, shown, created_at) VALUES ($1, $2, $3, 'live', 'k', $4, 0) RETURNING id
INSERT INTO ledger_accounts (code, book) VALUES ($1, $2) ON CONFLICT DO NOTHING
INSERT INTO meta VALUES ($1, $2)
INSERT INTO meta VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value
INSERT INTO names (name) VALUES ($1) ON CONFLICT DO NOTHING
INSERT INTO nodes (node, token, place, told, started_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (node) DO UPDATE SET place = excluded.place, told = excluded.told, started_at = excluded.started_at WHERE nodes.token = excluded.token
INSERT INTO postings (id, seq, book, account, grant_id, kind, amount, tokens, debt, reference, actor, note, at) VALUES ($1, (SELECT coalesce(max(seq), 0) + 1 FROM postings), $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
INSERT INTO pots (kind, ref, period, book, since, until, amount, spent) VALUES ($1, $2, '', $3, 0, $4, 0, 0)
INSERT INTO pots (kind, ref, period, book, since, until, amount, spent, over) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
INSERT INTO price_rows (prices) VALUES ($1) ON CONFLICT DO NOTHING
INSERT INTO projects (public_id, account, name, created_at) VALUES ($1, $2, 'default', $3)
INSERT INTO projects (public_id, account, name, created_at) VALUES ($1, $2, 'p', 0) RETURNING id
INSERT INTO recordings (call, name, request, project, book, keyed, resume_s, node, slot, state, made_at, expires_at, resume_until) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, $10, $11, $12) ON CONFLICT (name) DO UPDATE SET call = $1, request = $3, project = $4, book = $5, keyed = $6, resume_s = $7, node = $8, slot = $9, state = 0, made_at = $10, expires_at = $11, resume_until = $12, wanted_until = 0, charge = NULL, size = 0, answer = NULL WHERE recordings.state IN (5, 4) OR recordings.expires_at <= $10
INSERT INTO slices (pot, slot, amount, answered) VALUES ($1, $2, $3, $4) ON CONFLICT (pot, slot) DO UPDATE SET amount = excluded.amount
INSERT INTO slots (slot, epoch, pid, seen_at) VALUES ($1, 1, $2, $3) ON CONFLICT (slot) DO UPDATE SET epoch = slots.epoch + 1, pid = excluded.pid, seen_at = excluded.seen_at, turn = 0, given = '' RETURNING epoch
INSERT INTO uptime VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (hour, provider, model, probe) DO UPDATE SET served = uptime.served + excluded.served, failed = uptime.failed + excluded.failed
INSERT INTO usage_hours VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) ON CONFLICT (hour, book, account, project, key, model, provider) DO UPDATE SET calls = usage_hours.calls + excluded.calls, failed = usage_hours.failed + excluded.failed, estimated = usage_hours.estimated + excluded.estimated, input = usage_hours.input + excluded.input, output = usage_hours.output + excluded.output, cached = usage_hours.cached + excluded.cached, charge = usage_hours.charge + excluded.charge, cost = usage_hours.cost + excluded.cost
LOCK TABLE calls_rest IN ACCESS EXCLUSIVE MODE NOWAIT
SELECT * FROM balances
SELECT * FROM books
SELECT * FROM ledger_accounts
SELECT * FROM usage_days
SELECT * FROM usage_hours
SELECT -1, coalesce(max(seq), 0), (SELECT before FROM horizon) FROM changes UNION ALL SELECT book, seq, (SELECT before FROM horizon) FROM books
SELECT 0, '', epoch, 0 FROM slots WHERE slot = $1 UNION ALL SELECT 1, slot, seen_at, 0 FROM slots WHERE pid <> 0 UNION ALL SELECT 2, '', (SELECT coalesce(max(recall), 0) FROM pots WHERE recall > 0), 0 UNION ALL SELECT 3, '', p.id, p.recall FROM pots p JOIN slices s ON s.pot = p.id AND s.slot = $1 WHERE p.recall > 0 AND p.recall > $2 AND p.recall > s.answered
SELECT 1 FROM batches WHERE status IN ('validating', 'in_progress', 'cancelling', 'finalizing') LIMIT 1
SELECT 1 FROM blobs LIMIT 1
SELECT 1 FROM calls WHERE call = $1
SELECT 1 FROM grants g JOIN pots p ON p.ref = g.id AND p.kind IN ('grant', 'tokens') WHERE g.closed_at = 0 AND g.expires_at > 0 AND g.expires_at <= $1 AND NOT EXISTS (SELECT 1 FROM slices s WHERE s.pot = p.id AND s.amount > 0 AND s.slot <> 'lost') ORDER BY g.expires_at LIMIT $2
SELECT 1 FROM keys LIMIT 1
SELECT 1 FROM pg_class WHERE oid = to_regclass('calls') AND relkind = 'p'
SELECT 1 FROM recordings WHERE node = $1 AND (state = 0 OR (state = 2 AND charge IS NULL)) LIMIT 1
SELECT 1 FROM slots WHERE pid <> 0 LIMIT 1
SELECT 1 FROM videos WHERE open = 1 LIMIT 1
SELECT DISTINCT slot FROM slices
SELECT DISTINCT slot FROM slices WHERE slot LIKE 'batch-%'
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = CAST(CAST($1 AS text) AS regclass) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
SELECT b.n, b.id, b.job, b.charge, s.pot, s.amount FROM slices s JOIN batches b ON 'batch-' || b.n = s.slot WHERE s.amount > 0 AND b.status NOT IN ('validating', 'in_progress', 'cancelling', 'finalizing')
SELECT before FROM horizon
SELECT before, lost FROM horizon
SELECT book, first, last FROM dropped_numbers ORDER BY book, first
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND NOT c.relispartition
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = CAST(CAST($1 AS text) AS regclass)
SELECT call FROM recordings WHERE state = 0 AND node = $1 AND slot = $2 AND wanted_until > CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)
SELECT call, attempt, provider, costs, input, output, cached, cache_write, reasoning, input_audio, output_audio, more FROM lost ORDER BY call, attempt
SELECT call, attempt, provider, costs, input, output, cached, cache_write, reasoning, input_audio, output_audio, more FROM lost WHERE call = $1 ORDER BY attempt
SELECT call, charge FROM calls WHERE account = $1
SELECT call, kind, attempt, n, book, debit, credit, amount FROM entries ORDER BY call, kind, attempt, n
SELECT call, name, request, project, book, keyed, resume_s, state, resume_until, answer, node, slot FROM recordings WHERE name = $1
SELECT call, seq, book, account, project, key, attempt, model, provider, opened_at, status, flags, input, output, cached, cache_write, reasoning, input_audio, output_audio, more, prices, costs, hold, charge, absorbed, cost FROM calls ORDER BY call
SELECT call, seq, book, account, project, key, attempt, model, provider, opened_at, status, flags, input, output, cached, cache_write, reasoning, input_audio, output_audio, more, prices, costs, hold, charge, absorbed, cost FROM calls WHERE call = $1
SELECT coalesce(max(seq), 0) FROM changes
SELECT coalesce(sum(CASE WHEN max(k.created_at, k.rotated_at) <= $1 THEN 1 ELSE 0 END), 0), coalesce(sum(CASE WHEN max(k.created_at, k.rotated_at) <= $2 THEN 1 ELSE 0 END), 0) FROM keys k WHERE k.revoked_at = 0 AND (k.expires_at = 0 OR k.expires_at > $3)
SELECT coalesce(sum(charge), 0) FROM usage_hours WHERE key = $1 AND book = $2 AND hour >= $3
SELECT count(*) FROM (SELECT 1 FROM calls_rest WHERE call >= $1 AND call < $2 LIMIT 10001) AS strays
SELECT current_setting('jit') AS cur, set_config('jit', 'off', false) AS new
SELECT digest, CASE WHEN rpm | tpm | rpd | tpd | concurrency | queue_ms | rotated_at = 0 AND models || endpoints || networks = '[][][]' AND priority = 'interactive' AND substr(created_by, 1, 4) <> 'key_' THEN convert_to(CAST(json_build_array(id, project, member, kind, revoked_at, expires_at, name) AS text), 'UTF8') ELSE convert_to(CAST(json_build_array(id, project, member, kind, revoked_at, expires_at, name, created_by, rpm, tpm, rpd, tpd, concurrency, models, endpoints, networks, queue_ms, priority, rotated_at) AS text), 'UTF8') END FROM keys
SELECT digest, CASE WHEN rpm | tpm | rpd | tpd | concurrency | queue_ms | rotated_at = 0 AND models || endpoints || networks = '[][][]' AND priority = 'interactive' AND substr(created_by, 1, 4) <> 'key_' THEN convert_to(CAST(json_build_array(id, project, member, kind, revoked_at, expires_at, name) AS text), 'UTF8') ELSE convert_to(CAST(json_build_array(id, project, member, kind, revoked_at, expires_at, name, created_by, rpm, tpm, rpd, tpd, concurrency, models, endpoints, networks, queue_ms, priority, rotated_at) AS text), 'UTF8') END FROM keys WHERE public_id IN ($1)
SELECT event, reference, account, kind, amount FROM payments WHERE outcome = 'booked'
SELECT hour / 24, provider, model, probe, sum(served), sum(failed) FROM uptime WHERE hour >= $1 GROUP BY hour / 24, provider, model, probe
SELECT hour, book, account, project, key, model, provider, calls, failed, estimated, input, output, cached, charge, cost, absorbed FROM dropped_hours ORDER BY hour
SELECT id FROM ledger_accounts WHERE code = $1 AND book = $2
SELECT id FROM names WHERE name = $1
SELECT id FROM price_rows WHERE prices = $1
SELECT id, account, book, model, expires_at, kind FROM grants WHERE closed_at = 0
SELECT id, convert_to(CAST(json_build_array(public_id, account, archived_at, CASE WHEN environment = 'test' THEN 1 ELSE 0 END) AS text), 'UTF8') FROM projects
SELECT id, convert_to(CAST(json_build_array(public_id, account, archived_at, CASE WHEN environment = 'test' THEN 1 ELSE 0 END) AS text), 'UTF8') FROM projects WHERE public_id IN ($1)
SELECT id, convert_to(CAST(json_build_array(public_id, status, prepaid, tier, multiplier_ppm) AS text), 'UTF8') FROM accounts
SELECT id, convert_to(CAST(json_build_array(public_id, status, prepaid, tier, multiplier_ppm) AS text), 'UTF8') FROM accounts WHERE public_id IN ($1)
SELECT id, convert_to(CAST(json_build_array(public_id, status, prepaid, tier, multiplier_ppm) AS text), 'UTF8') FROM accounts WHERE public_id IN ($1, $2)
SELECT id, convert_to(CAST(json_build_array(role, project, removed_at) AS text), 'UTF8') FROM members
SELECT id, digest, old_digest FROM keys WHERE public_id IN ($1)
SELECT id, kind, model, tokens, account, book FROM grants
SELECT id, kind, ref, period, book, since, until, amount, spent, over FROM pots
SELECT id, name FROM names
SELECT id, prices FROM price_rows
SELECT id, public_id, account, book, kind, model, tokens, expires_at, closed_at FROM grants
SELECT id, public_id, amount, unit, tz FROM budgets WHERE origin = $1 AND scope = 'account' AND ref = $2 AND book = $3
SELECT id, public_id, amount, unit, tz, thresholds FROM budgets WHERE scope = $1 AND ref = $2 AND book = $3
SELECT id, scope, ref, book, amount FROM budgets
SELECT id, scope, ref, book, amount, unit, tz FROM budgets WHERE hard = 1
SELECT id, seq, book, account, grant_id, kind, amount, tokens, debt, reference, at FROM postings
SELECT kind, debit, credit, entries, amount FROM dropped_entries
SELECT kind, ref, amount, spent FROM pots WHERE kind IN ('grant', 'tokens')
SELECT member, convert_to(CAST(json_object_agg(project, role) AS text), 'UTF8') FROM project_members GROUP BY member
SELECT n, id, job FROM batches WHERE status IN ('validating', 'in_progress', 'cancelling', 'finalizing')
SELECT name, used, at, boot, ns FROM meters
SELECT old_digest, convert_to(CAST(json_build_array(id, project, member, kind, revoked_at, expires_at, name, created_by, rpm, tpm, rpd, tpd, concurrency, models, endpoints, networks, queue_ms, priority, rotated_at, old_until) AS text), 'UTF8') FROM keys WHERE old_digest IS NOT NULL
SELECT old_digest, convert_to(CAST(json_build_array(id, project, member, kind, revoked_at, expires_at, name, created_by, rpm, tpm, rpd, tpd, concurrency, models, endpoints, networks, queue_ms, priority, rotated_at, old_until) AS text), 'UTF8') FROM keys WHERE old_digest IS NOT NULL AND public_id IN ($1)
SELECT p.account, k.public_id, k.name, max(k.created_at, k.rotated_at) FROM keys k JOIN projects p ON p.id = k.project WHERE k.revoked_at = 0 AND (k.expires_at = 0 OR k.expires_at > $1) AND max(k.created_at, k.rotated_at) <= $2 AND NOT EXISTS (SELECT 1 FROM events e WHERE e.name = CAST($3 AS TEXT) || k.public_id || ':' || max(k.created_at, k.rotated_at)) LIMIT 1000
SELECT p.id, g.id, g.public_id, g.account, g.book, g.model, p.amount - p.spent FROM grants g JOIN pots p ON p.ref = g.id AND p.kind IN ('grant', 'tokens') WHERE g.closed_at = 0 AND g.expires_at > 0 AND g.expires_at <= $1 AND NOT EXISTS (SELECT 1 FROM slices s WHERE s.pot = p.id AND s.amount > 0 AND s.slot <> 'lost') ORDER BY g.expires_at LIMIT $2
SELECT p.id, p.kind, p.ref, p.period, p.since, p.until, p.amount, p.over, p.spent, p.recall, s.slot, s.amount, s.answered FROM pots p LEFT JOIN slices s ON s.pot = p.id WHERE (p.kind = $1 AND p.ref = $2 AND p.period = $3)
SELECT p.id, p.kind, p.ref, p.period, p.since, p.until, p.amount, p.over, p.spent, p.recall, s.slot, s.amount, s.answered FROM pots p LEFT JOIN slices s ON s.pot = p.id WHERE p.id = $1
SELECT pot FROM slices WHERE slot = $1
SELECT pot, slot, amount FROM slices
SELECT prepaid, public_id FROM accounts WHERE id = $1
SELECT project, count(*), sum(size) FROM recordings GROUP BY project
SELECT public_id FROM accounts WHERE id = $1
SELECT public_id FROM keys WHERE id = $1
SELECT public_id, amount, tokens, redeemed_by FROM codes WHERE redeemed_at > 0
SELECT public_id, convert_to(CAST(json_build_array(id, project, member, kind, revoked_at, expires_at, name, created_by, rpm, tpm, rpd, tpd, concurrency, models, endpoints, networks, queue_ms, priority, rotated_at) AS text), 'UTF8') FROM keys WHERE kind = 'admin'
SELECT public_id, convert_to(CAST(json_build_array(id, project, member, kind, revoked_at, expires_at, name, created_by, rpm, tpm, rpd, tpd, concurrency, models, endpoints, networks, queue_ms, priority, rotated_at) AS text), 'UTF8') FROM keys WHERE kind = 'admin' AND public_id IN ($1)
SELECT r.state, r.answer, coalesce(s.seen_at, 0), r.wanted_until - CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint), ARRAY(SELECT p.part FROM recording_parts p WHERE p.call = r.call AND p.n >= $1 ORDER BY p.n) FROM recordings r LEFT JOIN slots s ON s.slot = r.node || '/slot-' || CAST(r.slot AS text) WHERE r.call = $2
SELECT s.pot, s.slot, b.n FROM slices s JOIN batches b ON 'batch-' || b.n = s.slot WHERE b.status IN ('failed', 'completed', 'expired', 'cancelled')
SELECT scope, ref, book, amount FROM budgets WHERE id = $1
SELECT scope, ref, model, rpm, tpm, rpd, tpd, concurrency FROM limits ORDER BY id
SELECT segment, "offset" FROM drains WHERE slot = $1
SELECT seq, kind, ref FROM changes WHERE seq > $1 ORDER BY seq LIMIT $2
SELECT slot FROM slots WHERE pid <> 0
SELECT slot, segment, "offset" FROM drains
SELECT tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = current_schema() AND NOT tgisinternal GROUP BY tgname HAVING bool_and(tgenabled <> 'D')
SELECT to_regclass(CAST($1 AS text)) IS NOT NULL
SELECT token, place, told FROM nodes WHERE node = $1
SELECT token, told FROM nodes WHERE node = $1
SELECT value FROM meta WHERE name = $1
SELECT value FROM meta WHERE name = 'pepper_fingerprint'
SELECT version_num FROM alembic_version
UPDATE accounts SET status = $1 WHERE id = $2
UPDATE keys SET revoked_at = $1 WHERE id = $2
UPDATE pots SET amount = amount + $1 WHERE ref = $2 AND kind IN ('grant', 'tokens')
UPDATE pots SET over = max(0, spent + (SELECT CAST(coalesce(sum(amount), 0) AS BIGINT) FROM slices WHERE pot = pots.id) - amount) WHERE id = $1 AND over > 0
UPDATE pots SET recall = $1 WHERE id = $2
UPDATE pots SET spent = spent + $1 WHERE id = $2
UPDATE pots SET spent = spent + $1 WHERE kind = 'budget' AND ref = $2 AND period = $3 RETURNING ref, period, id, spent
UPDATE recordings SET state = 4, answer = NULL, size = 0, expires_at = made_at + $1 WHERE call IN (SELECT call FROM recordings WHERE expires_at <= $2 AND made_at + $1 > $2 AND state <> 5 LIMIT 20 FOR UPDATE SKIP LOCKED)
UPDATE recordings SET wanted_until = CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint) + 5000000 WHERE call = $1 AND state = 0
UPDATE slices SET amount = max(0, amount - $1) WHERE pot = $2 AND slot = $3
UPDATE slices SET answered = $1 WHERE pot = $2 AND slot = $3
UPDATE slices SET answered = $1 WHERE pot = $2 AND slot = $3 AND answered >= $4
UPDATE slots SET given = $1 WHERE slot = $2
UPDATE slots SET pid = 0 WHERE slot = $1
UPDATE slots SET turn = $1, given = '', seen_at = $2 WHERE slot = $3 AND epoch = $4 AND turn < $5 RETURNING (SELECT coalesce(max(recall), 0) FROM pots WHERE recall > 0)
WITH RECURSIVE typeinfo_tree( oid, ns, name, kind, basetype, elemtype, elemdelim, range_subtype, attrtypoids, attrnames, depth) AS ( SELECT ti.oid, ti.ns, ti.name, ti.kind, ti.basetype, ti.elemtype, ti.elemdelim, ti.range_subtype, ti.attrtypoids, ti.attrnames, 0 FROM ( SELECT t.oid AS oid, ns.nspname AS ns, t.typname AS name, t.typtype AS kind, (CASE WHEN t.typtype = 'd' THEN (WITH RECURSIVE typebases(oid, depth) AS ( SELECT t2.typbasetype AS oid, 0 AS depth FROM pg_type t2 WHERE t2.oid = t.oid UNION ALL SELECT t2.typbasetype AS oid, tb.depth + 1 AS depth FROM pg_type t2, typebases tb WHERE tb.oid = t2.oid AND t2.typbasetype != 0 ) SELECT oid FROM typebases ORDER BY depth DESC LIMIT 1) ELSE NULL END) AS basetype, t.typelem AS elemtype, elem_t.typdelim AS elemdelim, COALESCE( range_t.rngsubtype, multirange_t.rngsubtype) AS range_subtype, (CASE WHEN t.typtype = 'c' THEN (SELECT array_agg(ia.atttypid ORDER BY ia.attnum) FROM pg_attribute ia INNER JOIN pg_class c ON (ia.attrelid = c.oid) WHERE ia.attnum > 0 AND NOT ia.attisdropped AND c.reltype = t.oid) ELSE NULL END) AS attrtypoids, (CASE WHEN t.typtype = 'c' THEN (SELECT array_agg(ia.attname::text ORDER BY ia.attnum) FROM pg_attribute ia INNER JOIN pg_class c ON (ia.attrelid = c.oid) WHERE ia.attnum > 0 AND NOT ia.attisdropped AND c.reltype = t.oid) ELSE NULL END) AS attrnames FROM pg_catalog.pg_type AS t INNER JOIN pg_catalog.pg_namespace ns ON ( ns.oid = t.typnamespace) LEFT JOIN pg_type elem_t ON ( t.typlen = -1 AND t.typelem != 0 AND t.typelem = elem_t.oid ) LEFT JOIN pg_range range_t ON ( t.oid = range_t.rngtypid ) LEFT JOIN pg_range multirange_t ON ( t.oid = multirange_t.rngmultitypid ) ) AS ti WHERE ti.oid = any($1::oid[]) UNION ALL SELECT ti.oid, ti.ns, ti.name, ti.kind, ti.basetype, ti.elemtype, ti.elemdelim, ti.range_subtype, ti.attrtypoids, ti.attrnames, tt.depth + 1 FROM ( SELECT t.oid AS oid, ns.nspname AS ns, t.typname AS name, t.typtype AS kind, (CASE WHEN t.typtype = 'd' THEN (WITH RECURSIVE typebases(oid, depth) AS ( SELECT t2.typbasetype AS oid, 0 AS depth FROM pg_type t2 WHERE t2.oid = t.oid UNION ALL SELECT t2.typbasetype AS oid, tb.depth + 1 AS depth FROM pg_type t2, typebases tb WHERE tb.oid = t2.oid AND t2.typbasetype != 0 ) SELECT oid FROM typebases ORDER BY depth DESC LIMIT 1) ELSE NULL END) AS basetype, t.typelem AS elemtype, elem_t.typdelim AS elemdelim, COALESCE( range_t.rngsubtype, multirange_t.rngsubtype) AS range_subtype, (CASE WHEN t.typtype = 'c' THEN (SELECT array_agg(ia.atttypid ORDER BY ia.attnum) FROM pg_attribute ia INNER JOIN pg_class c ON (ia.attrelid = c.oid) WHERE ia.attnum > 0 AND NOT ia.attisdropped AND c.reltype = t.oid) ELSE NULL END) AS attrtypoids, (CASE WHEN t.typtype = 'c' THEN (SELECT array_agg(ia.attname::text ORDER BY ia.attnum) FROM pg_attribute ia INNER JOIN pg_class c ON (ia.attrelid = c.oid) WHERE ia.attnum > 0 AND NOT ia.attisdropped AND c.reltype = t.oid) ELSE NULL END) AS attrnames FROM pg_catalog.pg_type AS t INNER JOIN pg_catalog.pg_namespace ns ON ( ns.oid = t.typnamespace) LEFT JOIN pg_type elem_t ON ( t.typlen = -1 AND t.typelem != 0 AND t.typelem = elem_t.oid ) LEFT JOIN pg_range range_t ON ( t.oid = range_t.rngtypid ) LEFT JOIN pg_range multirange_t ON ( t.oid = multirange_t.rngmultitypid ) ) ti, typeinfo_tree tt WHERE (tt.elemtype IS NOT NULL AND ti.oid = tt.elemtype) OR (tt.attrtypoids IS NOT NULL AND ti.oid = any(tt.attrtypoids)) OR (tt.range_subtype IS NOT NULL AND ti.oid = tt.range_subtype) OR (tt.basetype IS NOT NULL AND ti.oid = tt.basetype) ) SELECT DISTINCT *, basetype::regtype::text AS basetype_name, elemtype::regtype::text AS elemtype_name, range_subtype::regtype::text AS range_subtype_name FROM typeinfo_tree ORDER BY depth DESC
WITH shown AS (DELETE FROM recording_parts WHERE call = $1) UPDATE recordings SET state = $2, answer = $3, size = $4, charge = $5, resume_until = CASE WHEN resume_s > 0 THEN resume_s * 1000000 + $6 ELSE 0 END, expires_at = greatest(CASE WHEN resume_s > 0 THEN resume_s * 1000000 + $6 ELSE 0 END, CASE WHEN keyed = 1 THEN made_at + $7 ELSE 0 END) WHERE call = $1
