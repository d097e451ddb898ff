#!/bin/sh
# One vector for a text.
curl -sS --fail-with-body "$OPENAI_BASE_URL/embeddings" \
  -H "Authorization: Bearer $OPENAI_API_KEY" -H "Content-Type: application/json" \
  -d '{"model": "text-embedding-3-small", "input": "hello", "dimensions": 8}'
