-- Usage in units other than tokens.
ALTER TABLE calls ADD COLUMN more TEXT NOT NULL DEFAULT '';
ALTER TABLE lost ADD COLUMN more TEXT NOT NULL DEFAULT '';
CREATE INDEX calls_more ON calls (opened_at) WHERE more <> ''; -- calls that used other units than tokens
