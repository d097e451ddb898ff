"""Several turns: the whole history goes with each call."""

from openai import OpenAI

client = OpenAI()
messages = [{"role": "system", "content": "You answer in one short sentence."}]
for question in ("Say blue", "Say green"):
    messages.append({"role": "user", "content": question})
    answer = client.chat.completions.create(model="gpt-4o-mini", messages=messages, max_completion_tokens=50)
    text = answer.choices[0].message.content
    messages.append({"role": "assistant", "content": text})
    print(question, "->", text, f"({answer.usage.total_tokens} tokens)")
