#!/bin/sh
# Order a video; then ask for it with GET, and fetch it from /content when it is completed.
curl -sS --fail-with-body "$OPENAI_BASE_URL/videos" \
  -H "Authorization: Bearer $OPENAI_API_KEY" \
  -H "Content-Type: application/json" \
  -d '{"model": "grok-imagine-video", "prompt": "A gate in a canal", "seconds": "4", "size": "1280x720"}'
