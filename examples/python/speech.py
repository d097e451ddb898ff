"""Speech in a file, written as it comes."""

import tempfile
from pathlib import Path

from openai import OpenAI

path = Path(tempfile.mkdtemp()) / "hello.wav"
voice = OpenAI().audio.speech.with_streaming_response
with voice.create(model="tts-1", voice="alloy", input="Hello there", response_format="wav") as answer:
    answer.stream_to_file(path)
print(f"{path}: {path.stat().st_size:,} bytes")
