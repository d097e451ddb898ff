"""Each error of the guide, once, without the SDK's own retries. The faults are the simulator's."""

import openai
from openai import OpenAI

client = OpenAI(max_retries=0)
HELLO = [{"role": "user", "content": "Hello"}]
CASES = {
    "401 wrong key": lambda: OpenAI(api_key="sk-wrong", max_retries=0).models.list(),
    "429 rate limit": lambda: client.chat.completions.create(model="sim-429", messages=HELLO),
    "400 temperature": lambda: client.chat.completions.create(model="gpt-4o", messages=HELLO, temperature=3),
    "400 no role": lambda: client.chat.completions.create(model="gpt-4o", messages=[{"content": "Hello"}]),
    "404 misspelt model": lambda: client.chat.completions.create(model="gpt-4oo", messages=HELLO),
    "400 context length": lambda: client.chat.completions.create(
        model="gpt-4", messages=[{"role": "user", "content": "long " * 9000}]
    ),
    "500 server": lambda: client.chat.completions.create(model="sim-500", messages=HELLO),
    "503 overloaded": lambda: client.chat.completions.create(model="sim-503", messages=HELLO),
}

for name, call in CASES.items():
    try:
        call()
    except openai.APIStatusError as error:
        print(f"{name}: {error.status_code} {type(error).__name__} code={error.code}: {error.message}")
