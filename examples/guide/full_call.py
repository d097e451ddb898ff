from openai import OpenAI
client = OpenAI()

response = client.chat.completions.create(
    model="gpt-3.5-turbo",
    messages=[
        {"role": "system", "content": "你是编程助手"},
        {"role": "user", "content": "解释Python列表"}
    ],
    temperature=0.7,
    max_tokens=500
)

# 提取回复和token用量
print(response.choices[0].message.content)
print(f"消耗tokens: {response.usage.total_tokens}")
