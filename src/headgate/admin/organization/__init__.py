"""OpenAI's own admin API: `client.admin.organization` of the official SDKs, on what is kept here."""
