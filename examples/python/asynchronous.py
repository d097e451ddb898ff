"""Many calls at once with the asynchronous client."""

import asyncio

from openai import AsyncOpenAI


async def main() -> None:
    async with AsyncOpenAI() as client:

        async def ask(word: str) -> str:
            answer = await client.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": f"Say {word}"}]
            )
            return answer.choices[0].message.content

        print(*await asyncio.gather(*(ask(word) for word in ("one", "two", "three"))))


asyncio.run(main())
