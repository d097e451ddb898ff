"""Kill the server again and again under a batch, and compare what came of it: `make batch-kills`.

A batch of lines whose usage is known beforehand runs while the server is killed, at named places and at any
moment. In the end there is exactly one output for each line, exactly one charge of exactly its price, nothing
is held any more, the ledger check is clean, and the provider was asked twice for no more lines than were in
flight at the kills.
"""
