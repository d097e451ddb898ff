"""The admin API: `ops` over HTTP, described by the table that serves it."""
