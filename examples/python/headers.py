"""The request id, the cost and the limits are in the response headers."""

from openai import OpenAI

raw = OpenAI().chat.completions.with_raw_response.create(
    model="gpt-4o-mini", messages=[{"role": "user", "content": "Say hi"}]
)
print(raw.headers["x-request-id"], "cost", raw.headers["x-headgate-cost"], "USD")
print(raw.parse().choices[0].message.content)
