"""An image, and where it is."""

import base64
import tempfile
from pathlib import Path

from openai import OpenAI

answer = OpenAI().images.generate(
    model="gpt-image-1", prompt="A red cat on a wall", size="1024x1024", quality="low"
)
path = Path(tempfile.mkdtemp()) / "cat.png"
path.write_bytes(base64.b64decode(answer.data[0].b64_json))
print(f"{path}: {path.stat().st_size:,} bytes, {answer.usage.total_tokens:,} tokens")
