"""What can be called here."""

from openai import OpenAI

client = OpenAI()
names = [model.id for model in client.models.list()]
print(len(names), "models, among them", ", ".join(names[:5]))
print(client.models.retrieve("gpt-4o").owned_by)
