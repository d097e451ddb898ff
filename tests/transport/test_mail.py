"""Mail on its way: by SMTP to a server on loopback that keeps it, and into a folder."""

import socketserver
import threading
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import pytest

from headgate.errors import Unavailable
from headgate.ports import Mail
from headgate.transport.mail import FolderMailer, MailSettings, SmtpMailer, mailer_of

LETTER = Mail("li@example.org", "Confirm", "Grüße\n\nhttps://gate.example/?token=abc\n")


class KeepsMail(socketserver.StreamRequestHandler):
    """As much of an SMTP server as one mail needs."""

    def handle(self) -> None:
        server: KeepingServer = self.server  # type: ignore[assignment]
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline():
            word = line.split()[0].upper() if line.split() else b""
            server.said.append(line.strip())
            if word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                while (part := self.rfile.readline()) != b".\r\n":
                    server.data += part
            elif word == b"EHLO":
                self.wfile.write(b"250-here\r\n250 8BITMIME\r\n")
                continue
            if word == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            self.wfile.write(server.refusal if word == b"RCPT" and server.refusal else b"250 ok\r\n")


class KeepingServer(socketserver.TCPServer):
    allow_reuse_address = True
    said: list[bytes]
    data = b""
    refusal = b""


@pytest.fixture
def server() -> Iterator[KeepingServer]:
    with KeepingServer(("127.0.0.1", 0), KeepsMail) as made:
        made.said = []
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def by_smtp(server: KeepingServer, **fields: object) -> SmtpMailer:
    port = server.server_address[1]
    return SmtpMailer(
        MailSettings(host="127.0.0.1", port=port, security="none", sender="gate@x.org", **fields)
    )  # type: ignore[arg-type]


def test_a_mail_goes_to_the_smtp_server(server: KeepingServer) -> None:
    by_smtp(server).send(LETTER)
    assert b"rcpt TO:<li@example.org>" in server.said
    got = message_from_bytes(server.data)
    assert (got["From"], got["To"], got["Subject"]) == ("gate@x.org", LETTER.to, LETTER.subject)
    assert got.get_payload(decode=True).decode().replace("\r\n", "\n") == LETTER.text  # type: ignore[union-attr]


def test_a_server_that_refuses_or_is_away_is_unavailable(server: KeepingServer) -> None:
    server.refusal = b"550 nobody\r\n"
    with pytest.raises(Unavailable, match="cannot be sent"):
        by_smtp(server).send(LETTER)
    with pytest.raises(Unavailable):
        SmtpMailer(MailSettings(host="127.0.0.1", port=9, security="none")).send(LETTER)


def test_tls_is_not_skipped_where_it_was_asked_for(server: KeepingServer) -> None:
    mailer = SmtpMailer(MailSettings(host="127.0.0.1", port=server.server_address[1]))
    with pytest.raises(Unavailable):  # this server has no STARTTLS
        mailer.send(LETTER)
    assert server.data == b""


def test_a_laptop_finds_its_mail_in_a_folder(tmp_path: Path) -> None:
    mailer = mailer_of(MailSettings(), tmp_path)
    assert isinstance(mailer, FolderMailer)
    mailer.send(LETTER)
    mailer.send(LETTER)
    files = sorted((tmp_path / "outbox").glob("*.eml"))
    assert [file.name[:7] for file in files] == ["000001-", "000002-"]
    assert b"token=abc" in files[0].read_bytes()
    assert files[0].stat().st_mode & 0o077 == 0
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable):
        mailer_of(MailSettings(outbox=str(tmp_path / "file" / "in")), tmp_path).send(LETTER)
