"""Speech to a file, and back to text, with its subtitles."""

from openai import OpenAI

client = OpenAI()
sound = client.audio.speech.create(
    model="tts-1", voice="alloy", input="Hello there", response_format="wav"
).read()
print(client.audio.transcriptions.create(model="whisper-1", file=("hello.wav", sound)).text)
print(client.audio.transcriptions.create(model="whisper-1", file=("hello.wav", sound), response_format="srt"))
