"""Google's Gemini API: AI Studio's `/v1beta` and Vertex AI's `/v1`. No I/O.

Facts: Google's API reference, the types of its Python SDK google-genai 3.4, and its pages on thinking,
thought signatures and structured output. The two hosts differ in their paths, in how they are asked
for embeddings, and in the credential: a key, or a token that expires.
"""

from __future__ import annotations

from headgate.providers.gemini.batches import ContentBatches
from headgate.providers.gemini.codec import STUDIO, VERTEX, credentials, located
from headgate.providers.gemini.jobs import PredictionJobs
from headgate.providers.gemini.request import keeps_schema
from headgate.providers.gemini.veo import VeoVideos

__all__ = [
    "STUDIO",
    "VERTEX",
    "ContentBatches",
    "PredictionJobs",
    "VeoVideos",
    "credentials",
    "keeps_schema",
    "located",
]
