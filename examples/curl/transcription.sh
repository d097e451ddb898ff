#!/bin/sh
# Speech to a file, and back to text.
curl -sS --fail-with-body "$OPENAI_BASE_URL/audio/speech" -o "${TMPDIR:-/tmp}/hello.wav" \
  -H "Authorization: Bearer $OPENAI_API_KEY" -H "Content-Type: application/json" \
  -d '{"model": "tts-1", "voice": "alloy", "input": "Hello there", "response_format": "wav"}'
curl -sS --fail-with-body "$OPENAI_BASE_URL/audio/transcriptions" \
  -H "Authorization: Bearer $OPENAI_API_KEY" -F file=@"${TMPDIR:-/tmp}/hello.wav" -F model=whisper-1
