#!/bin/sh
# What can be called here, and one of them.
curl -sS --fail-with-body "$OPENAI_BASE_URL/models" -H "Authorization: Bearer $OPENAI_API_KEY"
curl -sS --fail-with-body "$OPENAI_BASE_URL/models/gpt-4o" -H "Authorization: Bearer $OPENAI_API_KEY"
