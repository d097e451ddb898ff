-- How targets have done, hour by hour.
CREATE TABLE uptime (hour INTEGER NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL, -- as the provider calls it
  probe INTEGER NOT NULL, served INTEGER NOT NULL, failed INTEGER NOT NULL,
  PRIMARY KEY (hour, provider, model, probe)) WITHOUT ROWID;
