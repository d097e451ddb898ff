"""Three requests as a batch, at half price: upload, order, wait, read."""

import json
import time

from openai import OpenAI

client = OpenAI()
lines = [
    {
        "custom_id": f"word-{number}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": "gpt-4o-mini",
            "messages": [{"role": "user", "content": f"Say {word}"}],
            "max_tokens": 20,
        },
    }
    for number, word in enumerate(("hello", "thanks", "goodbye"))
]
data = "\n".join(json.dumps(line) for line in lines).encode()
file = client.files.create(file=("words.jsonl", data), purpose="batch")
batch = client.batches.create(
    input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
)
while batch.status not in {"completed", "failed", "expired", "cancelled"}:
    time.sleep(0.5)
    batch = client.batches.retrieve(batch.id)
print(batch.status, batch.request_counts)
if batch.output_file_id:
    for line in client.files.content(batch.output_file_id).text.splitlines():
        answer = json.loads(line)
        print(answer["custom_id"], answer["response"]["body"]["choices"][0]["message"]["content"])
