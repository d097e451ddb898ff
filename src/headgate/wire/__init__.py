"""The OpenAI wire as types and rules: what a request may hold, what an answer holds. No I/O."""
