-- What projects and accounts keep, noted by the database whoever writes: servers of an earlier version, too.
CREATE TABLE storage (n INTEGER PRIMARY KEY, scope INTEGER NOT NULL, -- 0 project, 1 account
  ref INTEGER NOT NULL, bytes INTEGER NOT NULL); -- what came to its blobs that are not to be removed, or went
CREATE INDEX storage_sums ON storage (scope, ref, bytes);
INSERT INTO storage (scope, ref, bytes) SELECT 0, project, sum(bytes) FROM blobs WHERE state <> 2 GROUP BY project;
INSERT INTO storage (scope, ref, bytes) SELECT 1, account, sum(bytes) FROM blobs WHERE state <> 2 GROUP BY account;
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
