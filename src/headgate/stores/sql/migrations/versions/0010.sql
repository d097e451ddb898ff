-- The last exchange of a slot that was applied, and what it granted.
ALTER TABLE slots ADD COLUMN turn INTEGER NOT NULL DEFAULT 0;
ALTER TABLE slots ADD COLUMN given TEXT NOT NULL DEFAULT '';
