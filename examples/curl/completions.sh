#!/bin/sh
# The legacy completions API.
curl -sS --fail-with-body "$OPENAI_BASE_URL/completions" \
  -H "Authorization: Bearer $OPENAI_API_KEY" -H "Content-Type: application/json" \
  -d '{"model": "gpt-3.5-turbo-instruct", "prompt": "Say hello", "max_tokens": 20}'
