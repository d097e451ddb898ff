"""Structured output: an answer that conforms to a JSON schema."""

import json

from openai import OpenAI

schema = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
answer = OpenAI().chat.completions.create(
    model="gpt-4o",
    messages=[{"role": "user", "content": "王小明今年 31 岁。请提取姓名和年龄。"}],
    response_format={
        "type": "json_schema",
        "json_schema": {"name": "person", "schema": schema, "strict": True},
    },
)
print(json.loads(answer.choices[0].message.content))
