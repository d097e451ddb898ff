"""Amazon Bedrock: Converse and ConverseStream for chat, InvokeModel for embeddings. No I/O.

Facts: AWS's API reference and botocore's description of `bedrock-runtime` (1.44), which the tests check every
request against. A host is asked with an API key, or every request is signed (`sigv4`); the keys for that are
found and renewed elsewhere.
"""

from __future__ import annotations

from headgate.providers.bedrock.codec import CODECS, credentials, located, region_of
from headgate.providers.bedrock.jobs import InvocationJobs
from headgate.providers.bedrock.request import keeps_schema

__all__ = ["CODECS", "InvocationJobs", "credentials", "keeps_schema", "located", "region_of"]
