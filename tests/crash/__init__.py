"""Kill the server under load, restart it, and compare three records: client, ledger, upstream."""
