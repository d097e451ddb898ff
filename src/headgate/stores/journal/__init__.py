"""The append-only journal: what the hot path writes instead of a database.

`slot` writes it, `syncer` makes it durable, `cursor` reads it, `records` and `segments` are its bytes and
its files.
"""

from headgate.stores.journal.slot import JournalSettings, SlotJournal

__all__ = ["JournalSettings", "SlotJournal"]
