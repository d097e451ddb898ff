"""Mail: by SMTP, or into a folder for laptops and tests. Both wait, so they are called in a thread."""

from __future__ import annotations

from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Final

import msgspec

from headgate.errors import Unavailable

if TYPE_CHECKING:
    from email.message import EmailMessage

    from headgate.ports import Mail, Mailer

_TIMEOUT_S: Final = 10.0


class MailSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How mail is sent: by an SMTP server, or into a folder."""

    sender: str = "headgate@localhost"  # the address that mail comes from
    host: str = ""  # SMTP server; empty: mail is written into `outbox`
    port: int = 587  # of the SMTP server
    security: str = "starttls"  # `starttls`, `tls` or `none`
    user: str = ""  # empty: no login
    password: str = ""  # `env:NAME`, `file:PATH` or itself
    link: str = ""  # of a sign-up, with `{token}` in it; empty: the command that shows us the token
    outbox: str = ""  # folder of *.eml files; empty: `outbox` in the data folder


def mailer_of(settings: MailSettings, data: Path) -> Mailer:
    """Return what sends mail by these settings."""
    if settings.host:
        return SmtpMailer(settings)
    return FolderMailer(Path(settings.outbox) if settings.outbox else data / "outbox", settings.sender)


class SmtpMailer:
    """Sends each mail on a connection of its own. Implements `ports.Mailer`."""

    __slots__ = ("_settings",)

    def __init__(self, settings: MailSettings) -> None:
        self._settings = settings

    def send(self, mail: Mail) -> None:
        """Hand a mail to the server.

        Raises:
            Unavailable: it does not take it.
        """
        import smtplib
        import ssl

        own = self._settings
        context = ssl.create_default_context()
        try:
            if own.security == "tls":
                server: smtplib.SMTP = smtplib.SMTP_SSL(
                    own.host, own.port, timeout=_TIMEOUT_S, context=context
                )
            else:
                server = smtplib.SMTP(own.host, own.port, timeout=_TIMEOUT_S)
            with server:
                if own.security == "starttls":
                    server.starttls(context=context)
                if own.user:
                    server.login(own.user, own.password)
                server.send_message(_message(mail, own.sender))
        except (OSError, smtplib.SMTPException) as fault:
            raise Unavailable(
                f"The mail cannot be sent now: {type(fault).__name__}. Try again in a moment."
            ) from fault


class FolderMailer:
    """Writes each mail into a folder, for whoever runs the gateway. Implements `ports.Mailer`."""

    __slots__ = ("_folder", "_sender")

    def __init__(self, folder: Path, sender: str) -> None:
        self._folder = folder
        self._sender = sender

    def send(self, mail: Mail) -> None:
        """Write a mail; files are numbered in the order of sending.

        Raises:
            Unavailable: the folder cannot be written.
        """
        content = bytes(_message(mail, self._sender))
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            number = len(list(self._folder.glob("*.eml"))) + 1
            with NamedTemporaryFile(
                dir=self._folder, prefix=f"{number:06d}-", suffix=".eml", delete=False
            ) as file:
                file.write(content)
        except OSError as fault:
            raise Unavailable(f"The mail cannot be written: {fault.strerror}.") from fault


def _message(mail: Mail, sender: str) -> EmailMessage:
    from email.message import EmailMessage
    from email.utils import make_msgid

    message = EmailMessage()
    message["From"] = sender
    message["To"] = mail.to
    message["Subject"] = mail.subject
    message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2] or "localhost")
    message.set_content(mail.text)
    return message
