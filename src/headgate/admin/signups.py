"""What is open to whoever comes: sign-up, and the payment provider's webhooks; and who and what came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from headgate.admin.keys import NewKey
from headgate.admin.table import PUBLIC, Listed, Route, listed
from headgate.ops import payments, signups
from headgate.ops.desk import PageOrder
from headgate.records import AccountRecord, MemberRecord, PaymentRecord, SignupRecord

if TYPE_CHECKING:
    from headgate.admin.office import Office
    from headgate.admin.table import Asked
    from headgate.ops.keys import CreatedKey


class Verification(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The token of a mail."""

    token: Annotated[str, Meta(min_length=1, max_length=200)]


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """An account that has just been opened, with two keys whose texts are shown once."""

    account: AccountRecord
    member: MemberRecord
    key: NewKey  # makes calls
    admin_key: NewKey  # manages the account


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """That an event has been taken. What came of it is for who owns the gateway."""

    received: bool = True


def _sign_up(office: Office, asked: Asked) -> signups.SignUpAnswer:
    office.pace.pass_one(asked.address, office.desk.clock.monotonic())
    return signups.sign_up(office.desk, office.trade.mailer, asked.body, office.trade.signup_link)


def _verify(office: Office, asked: Asked) -> Opened:
    made = signups.verify_email(office.desk, asked.body.token)
    return Opened(
        account=made.account, member=made.member, key=_key(made.key), admin_key=_key(made.admin_key)
    )


def _key(made: CreatedKey) -> NewKey:
    return NewKey(key=made.text, record=made.record)


def _list_signups(office: Office, asked: Asked) -> Listed[SignupRecord]:
    return listed(signups.list_signups(asked.actor, office.desk, asked.query))


def _receive(office: Office, asked: Asked) -> Received:
    payments.receive_stripe(office.desk, office.trade.payments, asked.raw, asked.headers)
    return Received()


def _list_payments(office: Office, asked: Asked) -> Listed[PaymentRecord]:
    return listed(payments.list_payments(asked.actor, office.desk, asked.query))


ROUTES: Final = (
    Route(
        method="POST", path="/admin/v1/signup", permission=PUBLIC,
        summary="Ask for an account: a mail with a token is sent", handle=_sign_up,
        answer=signups.SignUpAnswer, body=signups.SignUpOrder, status=202,
    ),
    Route(
        method="POST", path="/admin/v1/signup/verify", permission=PUBLIC,
        summary="Open an account with the token of a mail", handle=_verify, answer=Opened, body=Verification,
        status=201,
    ),
    Route(
        method="GET", path="/admin/v1/signups", permission="gateway.accounts", summary="List who signed up",
        handle=_list_signups, answer=Listed[SignupRecord], query=PageOrder,
    ),
    Route(
        method="POST", path="/admin/v1/webhooks/stripe", permission=PUBLIC,
        summary="Receive an event of Stripe, signed over its bytes", handle=_receive,
        answer=Received, raw=True,
    ),
    Route(
        method="GET", path="/admin/v1/payments", permission="gateway.credit",
        summary="List the events of payment providers", handle=_list_payments,
        answer=Listed[PaymentRecord], query=PageOrder,
    ),
)  # fmt: skip
