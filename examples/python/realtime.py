"""A session over WebSocket: one answer in text, one in audio. Needs `pip install 'openai[realtime]'`."""

import asyncio
import base64

from openai import AsyncOpenAI


async def main():
    async with AsyncOpenAI().realtime.connect(model="gpt-realtime") as session:
        await session.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        said = [{"type": "input_text", "text": "Say good morning"}]
        await session.conversation.item.create(item={"type": "message", "role": "user", "content": said})
        await session.response.create()
        async for event in session:
            if event.type == "response.output_text.delta":
                print(event.delta, end="", flush=True)
            elif event.type == "response.done":
                print(f" ({event.response.usage.total_tokens} tokens)")
                break

        await session.response.create(response={"output_modalities": ["audio"]})
        audio = b""
        async for event in session:
            if event.type == "response.output_audio.delta":
                audio += base64.b64decode(event.delta)
            elif event.type == "response.done":
                break
        print(f"{len(audio) / 48_000:.1f} s of audio, 16-bit at 24 kHz")


asyncio.run(main())
