import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from headgate.stores.journal import segments
from headgate.stores.journal.segments import Segment, preallocate

PIECES = [bytes([number]) * (700 + number) for number in range(1, 40)]


@pytest.fixture(params=["mapped", "written"])
def segment(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Segment:
    monkeypatch.setattr(segments, "_WINDOW", 4096)
    kinds = {segments._file_system(tmp_path.stat().st_dev)} if request.param == "mapped" else set()
    monkeypatch.setattr(segments, "_MAPPED", kinds)
    preallocate(tmp_path / "segment", sum(map(len, PIECES)) + 100)
    return Segment(tmp_path / "segment")


def put(segment: Segment, done: Callable[[], None]) -> None:
    offset = 0
    for piece in PIECES:
        if offset + len(piece) > segment.reach:
            segment.advance(offset, len(piece))
        segment.write(piece)
        offset += len(piece)
        done()


def test_what_was_written_is_in_the_file_at_once(segment: Segment, tmp_path: Path) -> None:
    path = tmp_path / "segment"
    seen: list[bytes] = []
    put(segment, lambda: seen.append(path.read_bytes().rstrip(b"\0")))
    assert seen == [b"".join(PIECES[: count + 1]) for count in range(len(PIECES))]
    segment.close(sum(map(len, PIECES)))
    assert path.read_bytes() == b"".join(PIECES)


def test_what_was_written_outlives_its_process(segment: Segment, tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        put(segment, lambda: None)
        os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert (tmp_path / "segment").read_bytes().rstrip(b"\0") == b"".join(PIECES)
    segment.close()


def test_what_was_written_in_part_is_written_again_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "_MAPPED", set[str]())
    path = tmp_path / "segment"
    preallocate(path, 8192)
    segment = Segment(path)
    segment.begin(PIECES[0])
    real = segments.write_at
    monkeypatch.setattr(segments, "write_at", lambda fd, data, offset: real(fd, data[:9], offset))
    with pytest.raises(OSError, match="disk is full"):
        segment.write(PIECES[1])
    monkeypatch.undo()
    segment.write(PIECES[2])
    segment.close()
    assert path.read_bytes().rstrip(b"\0") == PIECES[0] + PIECES[2]


def test_a_closed_segment_takes_nothing(segment: Segment, tmp_path: Path) -> None:
    segment.begin(PIECES[0])
    segment.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        segment.write(PIECES[1])
    with pytest.raises(OSError, match="Bad file descriptor"):
        segment.advance(len(PIECES[0]), len(PIECES[1]))
    assert not segment.open


def test_only_what_has_its_room_on_a_known_file_system_is_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(segments, "write_at", lambda _fd, data, _offset: calls.append(len(data)) or len(data))
    own = segments._file_system(tmp_path.stat().st_dev)
    for kinds, sparse, written in ((set[str](), False, 1), ({own}, True, 1), ({own}, False, 0)):
        monkeypatch.setattr(segments, "_MAPPED", kinds)
        path = tmp_path / "segment"
        preallocate(path, 8192)
        if sparse:
            path.unlink()
            path.touch()
            os.truncate(path, 8192)
        segment = Segment(path)
        segment.begin(b"x" * 100)
        segment.close()
        assert len(calls) == written, (kinds, sparse)
        calls.clear()


def test_the_type_of_a_file_system_is_found_by_its_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
        "40 22 0:35 / /a\\040b rw,nosuid - btrfs /dev/vdb rw\n"
    )
    monkeypatch.setattr(segments, "_MOUNTS", table)
    assert segments._file_system(os.makedev(254, 1)) == "ext4"
    assert segments._file_system(os.makedev(0, 35)) == "btrfs"
    assert segments._file_system(os.makedev(0, 36)) == ""
    monkeypatch.setattr(segments, "_MOUNTS", tmp_path / "nowhere")
    assert segments._file_system(os.makedev(254, 1)) == ""
