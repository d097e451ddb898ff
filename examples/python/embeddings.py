"""Embeddings and their similarity."""

from openai import OpenAI

texts = ["how to reset my password", "password reset steps", "the weather in Paris"]
data = OpenAI().embeddings.create(model="text-embedding-3-small", input=texts).data
first, *others = (row.embedding for row in data)
print("dimensions:", len(first))
for text, vector in zip(texts[1:], others, strict=True):
    print(f"{sum(a * b for a, b in zip(first, vector, strict=True)):.3f}  {text}")
