import time
from openai import OpenAI

client = OpenAI()

def api_call_with_retry():
    for i in range(3):
        try:
            return client.chat.completions.create(
                model="gpt-3.5-turbo",
                messages=[{"role": "user", "content": "Hello"}]
            )
        except Exception as e:
            if i < 2:
                time.sleep(2 ** i)  # 指数退避
            else:
                raise e

print(api_call_with_retry().choices[0].message.content)
