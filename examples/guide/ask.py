"""Ask once, without retries: ask.py MODEL TEXT [NAME=NUMBER ...]. Prints the answer or the error."""

import sys

import openai

if len(sys.argv) < 3:
    sys.exit(__doc__)
model, text, *options = sys.argv[1:]
extra = {name: float(value) for name, value in (option.split("=") for option in options)}
try:
    answer = openai.OpenAI(max_retries=0).chat.completions.create(
        model=model, messages=[{"role": "user", "content": text}], **extra
    )
    print(answer.choices[0].message.content)
except openai.APIStatusError as error:
    print(error.status_code, type(error).__name__, error.code, error.message)
