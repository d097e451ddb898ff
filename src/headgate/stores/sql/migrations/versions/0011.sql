-- Sums of days beside those of hours, kept by the database whoever writes hours: servers of an earlier version, too.
CREATE TABLE usage_days (day INTEGER NOT NULL, book INTEGER NOT NULL, account INTEGER NOT NULL,
  project INTEGER NOT NULL, key INTEGER NOT NULL, model INTEGER NOT NULL, provider INTEGER NOT NULL,
  calls INTEGER NOT NULL, failed INTEGER NOT NULL, estimated INTEGER NOT NULL,
  input INTEGER NOT NULL, output INTEGER NOT NULL, cached INTEGER NOT NULL,
  charge INTEGER NOT NULL, cost INTEGER NOT NULL,
  PRIMARY KEY (day, book, account, project, key, model, provider)) WITHOUT ROWID;
INSERT INTO usage_days SELECT hour / 24, book, account, project, key, model, provider,
  sum(calls), sum(failed), sum(estimated), sum(input), sum(output), sum(cached), sum(charge), sum(cost)
  FROM usage_hours GROUP BY 1, 2, 3, 4, 5, 6, 7;
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
