"""The legacy completions API."""

from openai import OpenAI

answer = OpenAI().completions.create(model="gpt-3.5-turbo-instruct", prompt="Say hello", max_tokens=20)
print(answer.choices[0].text, answer.usage.total_tokens)
