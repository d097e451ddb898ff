"""Videos: jobs that outlive a request. Ordered, paid and fetched as OpenAI's `/v1/videos`."""
