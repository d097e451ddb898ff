"""Function calling: the model asks for a tool, we run it, the model answers."""

import json

from openai import OpenAI

client = OpenAI()
tools = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get the weather of a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]
messages = [{"role": "user", "content": "What is the weather in Paris?"}]
first = client.chat.completions.create(model="gpt-4o", messages=messages, tools=tools)
call = first.choices[0].message.tool_calls[0]
city = json.loads(call.function.arguments)["city"]
print("the model calls", call.function.name, "for", city)
messages += [
    first.choices[0].message,
    {
        "role": "tool",
        "tool_call_id": call.id,
        "content": json.dumps({"city": city, "sky": "clear", "celsius": 21}),
    },
]
print(
    client.chat.completions.create(model="gpt-4o", messages=messages, tools=tools).choices[0].message.content
)
