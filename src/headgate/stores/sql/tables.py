"""The tables of the admin store for SQLAlchemy; schema.sql is what makes them."""

from __future__ import annotations

from sqlalchemy import Column, Integer, LargeBinary, MetaData, Table, Text

_METADATA = MetaData()


def _table(name: str, texts: str = "", integers: str = "", blobs: str = "") -> Table:
    columns = [
        Column(column, kind(), primary_key=column in {"id", "seq"})
        for names, kind in ((integers, Integer), (texts, Text), (blobs, LargeBinary))
        for column in names.split()
    ]
    return Table(name, _METADATA, *columns)


accounts = _table(
    "accounts",
    "public_id name status tier metadata",
    "id prepaid tier_fixed multiplier_ppm first_paid_at created_at",
)
projects = _table("projects", "public_id name environment metadata", "id account archived_at created_at")
members = _table("members", "public_id name email role metadata", "id account project removed_at created_at")
project_members = _table("project_members", "role", "project member created_at")
keys = _table(
    "keys",
    "public_id kind name shown models endpoints networks rights priority metadata created_by",
    "id old_until project member rpm tpm rpd tpd concurrency queue_ms created_at rotated_at expires_at"
    " revoked_at",
    "digest old_digest",
)
key_uses = _table("key_uses", integers="key used_at")
budgets = _table("budgets", "public_id scope unit tz thresholds origin", "id ref book amount hard created_at")
limits = _table("limits", "public_id scope model origin", "id ref rpm tpm rpd tpd concurrency created_at")
changes = _table("changes", "kind ref", "seq at")
audit = _table("audit", "actor action kind ref outcome detail", "seq at account")
events = _table("events", "kind ref name detail", "seq at account")
secrets = _table("secrets", "name host", "id version created_at", "wrapped nonce sealed")
grants = _table(
    "grants", "public_id kind model note", "id account book tokens expires_at closed_at created_at"
)
postings = _table(
    "postings", "kind reference actor note", "seq book account grant_id amount tokens debt at", "id"
)
pots = _table("pots", "kind period", "id ref book since until amount spent recall")
codes = _table(
    "codes",
    "public_id shown model created_by",
    "id book amount tokens valid_days expires_at revoked_at redeemed_at redeemed_by created_at",
    "digest",
)
payments = _table("payments", "event source reference kind currency outcome", "id account amount at")
signups = _table(
    "signups", "public_id email name", "id expires_at mails verified_at account created_at", "digest"
)
limit_requests = _table(
    "limit_requests", "public_id wanted reason status decided_by", "id account member decided_at created_at"
)
