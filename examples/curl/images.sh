#!/bin/sh
# An image, by the tokens that it takes.
curl -sS --fail-with-body "$OPENAI_BASE_URL/images/generations" \
  -H "Authorization: Bearer $OPENAI_API_KEY" -H "Content-Type: application/json" \
  -d '{"model": "gpt-image-1", "prompt": "A red cat on a wall", "size": "256x256", "quality": "low"}'
