"""The simulator's sounds are of their formats."""

import io
import wave

from headgate.transport.simulator import sounds


def test_a_wav_opens_and_is_as_long_as_its_head_says() -> None:
    data = b"".join(sounds.wav("Hello, 世界"))
    with wave.open(io.BytesIO(data)) as sound:
        assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, 24_000)
        assert sound.getnframes() == 9 * 60 * 24
        samples = sound.readframes(sound.getnframes())
    assert len(samples) == 2 * 9 * 60 * 24
    assert any(samples)
    assert samples == b"".join(sounds.pcm("Hello, 世界"))


def test_slow_speech_takes_longer() -> None:
    assert sum(map(len, sounds.pcm("abc", 0.5))) == 2 * sum(map(len, sounds.pcm("abc", 1.0)))


def test_an_mp3_is_frames_of_its_length() -> None:
    data = b"".join(sounds.mp3("Hello there"))
    assert len(data) % 192 == 0
    assert len(data) // 192 * 24 >= sounds.duration_ms("Hello there")
    for at in range(0, len(data), 192):  # MPEG-2 layer III, 64 kbit/s, 24 kHz, mono: 72 * 64000 / 24000 bytes
        assert data[at : at + 4] == b"\xff\xf3\x84\xc4"
