"""What docs/settings.md says of providers that need more than a key, in words."""

BEDROCK = """## Amazon Bedrock

`AWS_BEARER_TOKEN_BEDROCK`, its API key, switches it on together with `AWS_REGION`; one that expires is printed by a
`token_command`. Where AWS's access keys sign every request instead, it is a row of the file, and needs
`pip install 'headgate[bedrock]'`:

```toml
[[providers]]
name = "bedrock"
location = "eu-central-1"         # else AWS_REGION or AWS_DEFAULT_REGION; China's regions have their own domain
profile = "work"                  # or access_key_id and secret_access_key; or neither, see below

[[models]]
name = "claude"
targets = [{ provider = "bedrock", model = "eu.anthropic.claude-haiku-4-5-20251001-v1:0" }]
```

Without `profile` and keys in the file they are found as AWS's tools find them: `AWS_ACCESS_KEY_ID` and its companions,
`AWS_PROFILE`, AWS's files, a web identity, the role of the container or the machine; what expires is renewed in time.
Models are ids, inference profiles and their ARNs, with the prices of their region. An application's inference profile
does not say which model it is of: give it a row under `[prices]`. Each further region is a row with a name of your own,
`kind = "bedrock"` and `base_url = "https://bedrock-runtime.REGION.amazonaws.com"`.
"""


PLACES = """\
## Providers that need more than a key

```toml
[[providers]]                     # Gemini at Vertex AI
name = "vertex"
project = "my-project"
location = "europe-west4"
service_account = "/etc/headgate/account.json"   # or token_command = ["gcloud", "auth", "print-access-token"]

[[providers]]                     # Claude at Vertex AI, by the same account
name = "vertex-claude"
project = "my-project"
location = "us-east5"             # a region, `us`, `eu`, or `global`, which is meant without it
service_account = "/etc/headgate/account.json"
schema = "enforced"               # where your organisation allows structured_outputs; else a tool stands for a schema

[[providers]]                     # Azure OpenAI, by /openai/v1; two variables do the same with no file
name = "azure"
base_url = "https://NAME.openai.azure.com"
api_key = "env:AZURE_OPENAI_API_KEY"
deployments = { "prod-4o" = "gpt-4o" }   # what each deployment is, where its name does not say so

[[providers]]                     # by the dated API, with a client of Entra ID instead of a key
name = "azure-eu"
kind = "azure"
base_url = "https://NAME-EU.openai.azure.com"
api_version = "2024-10-21"
tenant = "00000000-0000-0000-0000-000000000000"
client_id = "00000000-0000-0000-0000-000000000000"
client_secret = "env:AZURE_CLIENT_SECRET"

[[providers]]                     # in China; authority and token_scope are those of the cloud unless given
name = "azure-cn"
kind = "azure"
base_url = "https://NAME.openai.azure.cn"
api_version = "2024-10-21"
authority = "https://login.partner.microsoftonline.cn"
token_scope = "https://cognitiveservices.azure.cn/.default"
tenant = "00000000-0000-0000-0000-000000000000"
client_id = "00000000-0000-0000-0000-000000000000"
client_secret = "env:AZURE_CN_CLIENT_SECRET"

[[providers]]                     # Cohere, by its own API; one variable does the same with no file
name = "cohere"
api_key = "env:CO_API_KEY"

[[models]]
name = "gpt-4o"
targets = [{ provider = "azure", model = "prod-4o" }, { provider = "azure-eu", model = "gpt-4o" }]
```

Cohere takes its own `top_k`, `safety_mode`, `citation_options` and `thinking` in a request, and for embeddings
`input_type` (else `search_document`) and `truncate` (else `NONE`: a text that is too long is refused). What it bills,
`billed_units`, is the usage that is shown and booked. `documents` are left out, and named in `x-headgate-dropped`.

Claude's models have at Vertex AI the names that Google gives them: `claude-opus-4-8`, `claude-haiku-4-5@20251001`. Schemas that a model
keeps to, of answers and of tools, Google refuses until `constraints/vertexai.allowedPartnerModelFeatures` of the organisation allows
`structured_outputs`. Prices are those of the global endpoint; a region's are higher, and rows of `[prices]` say them.

A deployment is asked for as a model: `prod-4o`, `azure/prod-4o`, or by the name of its model. Prices are those of Azure's
public cloud; rows of `[prices]` for `azure-cn` and the like say others.
"""


ROOM = """## Room at providers

A provider, and a target of a model, may have bounds: `max_concurrent` calls are there at once. A call goes to the first of its
targets with room. Where none has any it waits for whichever has first, `longest_wait_s` at most, in a line of at most
`max_waiting` calls, both as its first target says. There is a line for each set of targets: models with the same ones share it,
others that lead to the same provider have lines of their own. In a line accounts take turns, in each its keys; keys of priority
`batch` wait for the others, but of every eight calls one is theirs. In a full line the one with the most calls gives way. Who is
not let in gets 503 `server_is_overloaded` with `Retry-After`; the header `x-headgate-queued-ms` says how long a call waited.
Several workers have equal shares of `max_concurrent` and `max_waiting`, of at least one call each. Sessions and jobs of videos are
not counted.

With no setting at all a provider is asked only as fast as it says itself (`x-ratelimit-*`, `anthropic-ratelimit-*`,
`retry-after`), for each key and model: where nothing is left, another target or key is asked, or the call waits in the same
way. So do calls that it refused, up to their number of attempts: one goes first, then one more for each that is served. A
`retry-after` that is a date counts from the answer's `Date`, or by our clock where it has none. What it
says with no sense is ignored, and so is, for a minute, what one call shows to be wrong.
"""
