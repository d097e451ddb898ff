"""A disk that fills up under a gateway: 64 MB, all of its data folder."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.caps.callers import Order, call
from tests.caps.money import PRICE, Money, Payer
from tests.caps.provider import Provider
from tests.caps.serving import CONFIG, HEADGATE, start
from tests.losses.rounds import TOKENS, Answer, Outcome, order
from tests.several.asking import ask
from tests.surfaces.forks import run

SIZE_MB = 64
BACK_S = 5.0
_PIECE = bytes(1 << 16)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Mount so small a file system. Raises CalledProcessError where that is not allowed."""
    folder.mkdir(parents=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", folder], check=True, capture_output=True
    )
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(path: Path) -> None:
    """Write until nothing goes on the disk any more."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(_PIECE):
            pass
    with contextlib.suppress(OSError), path.with_suffix(".rest").open("wb", buffering=0) as file:
        while file.write(b"\0"):
            pass


async def full_disk(folder: Path, journal_s: float) -> Outcome:
    """Fill the disk with a stream open, call on, and make room again."""
    outcome = Outcome("full disk")
    text = f"{{}}\n[storage]\njournal_segment_kb = 256\njournal_bound_s = {journal_s}\n"
    with small_disk(folder / "data"):
        async with Provider() as provider:
            process, gateway = await start(folder, text.format(CONFIG.format(port=provider.port)), 1)
            payer = Money(gateway.data).payer(prepaid=True)
            Money(gateway.data).grant(payer.account, 10**12)
            await asyncio.sleep(1.0)
            port, key = gateway.ports[0], payer.keys[0][1]
            await _fill_and_free(outcome, (port, key), gateway.data, journal_s)
            _reconcile(outcome, await _drained(gateway.data, payer, outcome))
            process.send_signal(signal.SIGTERM)
            code = await asyncio.to_thread(process.wait, 60)
            if code:
                outcome.wrong.append(f"exit {code}: {(folder / 'server.log').read_text()[-2000:]}")
        check = [HEADGATE, "ledger", "check", "--data", str(gateway.data)]
        done = run(check, folder, dict(os.environ), 120)
        if done.returncode:
            outcome.wrong.append(done.stdout + done.stderr)
    return outcome


async def _fill_and_free(outcome: Outcome, whose: tuple[int, str], data: Path, journal_s: float) -> None:
    port, key = whose
    since = time.monotonic()

    async def one() -> int:
        began = time.monotonic()
        reply = await ask(port, key, "/v1/chat/completions", order())
        took_s = time.monotonic() - began
        outcome.answers.append(Answer("prepaid", began - since, took_s, reply.status, reply.request_id))
        return reply.status

    while await one() != 200:
        await asyncio.sleep(0.1)
    stream = asyncio.create_task(call(port, key, Order(TOKENS, gap_ms=int(1000 * journal_s), stream=True)))
    await asyncio.sleep(0.3)
    await asyncio.to_thread(fill, data / "filler")
    full = time.monotonic()
    while await one() != 503:
        await asyncio.sleep(0.1)
        if time.monotonic() - full > journal_s + 20:
            outcome.wrong.append("calls are taken, and nothing can be written")
            break
    seen = await stream
    outcome.answers.append(Answer("stream", 0.0, 0.0, seen.status, seen.request_id))
    if not seen.whole:
        outcome.wrong.append(f"the stream that was open: {seen}")
    for path in data.glob("filler*"):
        path.unlink()
    freed = time.monotonic()
    while await one() != 200 and time.monotonic() - freed < 30:
        await asyncio.sleep(0.05)
    outcome.back_s = time.monotonic() - freed
    if outcome.back_s > BACK_S:
        outcome.wrong.append(f"back after {outcome.back_s:.1f} s")
    outcome.wrong += [f"status {each.status}" for each in outcome.answers if each.status not in {200, 503}]


async def _drained(data: Path, payer: Payer, outcome: Outcome) -> dict[str, int]:
    """Return what was booked, once it is all that was served, or nothing more comes."""
    served = {each.request_id for each in outcome.answers if each.status == 200}
    until = time.monotonic() + 20
    while True:
        booked = Money(data).charges(payer)
        if booked.keys() >= served or time.monotonic() > until:
            return booked
        await asyncio.sleep(0.1)


def _reconcile(outcome: Outcome, booked: dict[str, int]) -> None:
    for each in outcome.answers:
        due = TOKENS * PRICE if each.status == 200 else 0
        if booked.get(each.request_id, 0) != due:
            outcome.wrong.append(f"{each.who} {each.status}: {booked.get(each.request_id)} booked, due {due}")
