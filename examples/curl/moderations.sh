#!/bin/sh
# Is it safe to show? By the word lists that are built in, free of charge.
curl -sS --fail-with-body "$OPENAI_BASE_URL/moderations" \
  -H "Authorization: Bearer $OPENAI_API_KEY" -H "Content-Type: application/json" \
  -d '{"model": "headgate-lexical", "input": "I want to kill them."}'
