"""Sign-up: somebody gives an address, proves by a token in a mail that it is theirs, and has an account.

Whether an address has an account already is told to nobody: the answer is the same, and only the mail
differs. One address has one account. Only a digest of the token is stored.
"""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING, Final

import msgspec

from headgate.errors import CallerError, NotFound
from headgate.identity.roles import ROLES
from headgate.ops.accounts import open_credit
from headgate.ops.actors import Actor, Place, authorise
from headgate.ops.keyrules import KeyOrder
from headgate.ops.keys import CreatedKey, add_key
from headgate.ops.words import check_email, check_name
from headgate.ports import Mail
from headgate.records import AccountRecord, MemberRecord, ProjectRecord, SignupRecord

if TYPE_CHECKING:
    from headgate.ops.desk import Deed, Desk, Page, PageOrder, Register
    from headgate.ports import Mailer

GATEWAY: Final = Actor("sign-up")
VALID_S: Final = 24 * 3600  # how long a token is valid
AGAIN_S: Final = 60  # how long until another mail is sent to the same address
MOST_MAILS: Final = 10  # to one address that never verifies
_TOKEN_BYTES: Final = 32


class SignUpOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who wants an account."""

    email: str
    name: str = ""  # of the account; empty: the address


class SignUpAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What everybody is told: look into your mail."""

    email: str
    valid_s: int = VALID_S


class NewAccount(msgspec.Struct, frozen=True, kw_only=True):
    """An account that has just been opened. The keys' texts are shown once."""

    account: AccountRecord
    member: MemberRecord
    key: CreatedKey  # makes calls
    admin_key: CreatedKey  # manages the account


def sign_up(desk: Desk, mailer: Mailer, order: SignUpOrder, link: str) -> SignUpAnswer:
    """Send a mail with a token to an address that wants an account; also the way to have it sent again.

    Args:
        desk: where.
        mailer: sends it, in this thread.
        order: who.
        link: where the token is to be shown; `{token}` stands for it.

    Raises:
        NotFound: this gateway opens no accounts by itself.
        CallerError: it is no address, or no name; `param` names the member.
        Unavailable: the mail cannot be sent.
    """
    email = check_email(order.email)
    name = check_name(order.name or email)
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    with desk.writing(GATEWAY, "signup.asked") as deed:
        _must_be_open(deed.register)
        mail = _prepare(deed, desk, SignupRecord(email=email, name=name, expires_at=0), token)
    if mail:
        mailer.send(Mail(email, *_written(name, link.replace("{token}", token))))
    return SignUpAnswer(email=email)


def verify_email(desk: Desk, token: str) -> NewAccount:
    """Open the account of whoever shows the token of a mail: with a project, its owner, and two keys.

    Raises:
        NotFound: the token is none of ours, was used, or has expired.
    """
    with desk.writing(GATEWAY, "account.signed_up") as deed:
        _must_be_open(deed.register)
        signup = deed.register.get(SignupRecord, digest=_digest(desk.pepper, token))
        if signup is None or signup.verified_at or signup.expires_at <= deed.at:
            raise NotFound(
                "This token is not valid: it was used, has expired, or a newer mail was sent. "
                "Sign up once more to get another one.",
                code="token_not_valid",
                param="token",
            )
        opened = _open(deed, desk, signup)
        deed.put(signup, msgspec.structs.replace(signup, verified_at=deed.at, account=opened.account.id))
        deed.account = deed.ref = opened.account.id
        deed.detail = {"signup": signup.id, "email": signup.email}
        return opened


def list_signups(actor: Actor, desk: Desk, page: PageOrder) -> Page:
    """Return a page of those who signed up, as `SignupRecord`s."""
    with desk.reading() as register:
        authorise(actor, "gateway.accounts", Place())
        return desk.page(register, SignupRecord, page)


def _must_be_open(register: Register) -> None:
    if not register.credit.prepaid:
        raise NotFound("This gateway opens no accounts by itself: it does not serve prepaid.")


def _prepare(deed: Deed, desk: Desk, wanted: SignupRecord, token: str) -> bool:
    """Note a new token for an address; False where no mail is to be sent."""
    register, now, digest = deed.register, deed.at, _digest(desk.pepper, token)
    taken = register.all(MemberRecord, email=wanted.email, role="owner", removed_at=0)
    known = register.get(SignupRecord, email=wanted.email)
    until = now + VALID_S * 1_000_000
    if taken or (known is not None and known.verified_at):
        return False
    if known is None:
        deed.add(msgspec.structs.replace(wanted, expires_at=until, created_at=now), digest=digest)
        return True
    if known.mails >= MOST_MAILS or until - known.expires_at < AGAIN_S * 1_000_000:
        return False
    again = msgspec.structs.replace(known, name=wanted.name, expires_at=until, mails=known.mails + 1)
    deed.put(known, again, digest=digest)
    return True


def _open(deed: Deed, desk: Desk, signup: SignupRecord) -> NewAccount:
    account = deed.add(AccountRecord(name=signup.name, prepaid=True, created_at=deed.at))
    account = open_credit(deed, desk, account)
    project = deed.add(ProjectRecord(account=account.id, name="default", created_at=deed.at))
    member = deed.add(
        MemberRecord(
            account=account.id, name=signup.email, email=signup.email, role="owner", created_at=deed.at
        )
    )
    deed.actor = Actor(member.id, account.id, member.id, ROLES["owner"])
    place = Place(account.id, project.id, member.id)
    return NewAccount(
        account=account,
        member=member,
        key=add_key(deed, desk, KeyOrder(name="first"), place),
        admin_key=add_key(deed, desk, KeyOrder(name="first admin", kind="admin"), place),
    )


def _digest(pepper: bytes, token: str) -> bytes:
    if not 1 <= len(token) <= 200:
        raise CallerError("This is no token of a mail of ours.", param="token")
    return hmac.digest(pepper, b"signup\0" + token.strip().encode(), "sha256")


def _written(name: str, link: str) -> tuple[str, str]:
    """Return the subject and the text of the mail."""
    text = (
        f"Somebody, hopefully you, wants an account for {name}.\n\n"
        f"To open it, use this within 24 hours:\n\n{link}\n\n"
        "If it was not you, do nothing: no account is opened.\n"
    )
    return "Confirm your address", text
