"""Is it safe to show? By the word lists that are built in, or by a provider's model."""

from openai import OpenAI

texts = ["How lovely to see you", "I want to kill them.", "我不想活了"]
answer = OpenAI().moderations.create(model="headgate-lexical", input=texts)
for text, result in zip(texts, answer.results, strict=True):
    found = [name for name, yes in result.categories.to_dict().items() if yes]
    print(f"{text}: {', '.join(found) or 'nothing found'}")
