"""The members of each operation's request and how each is checked. Source: OpenAI's API description."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.errors import CallerError
from headgate.wire.checks import (
    Check,
    Json,
    anything,
    array,
    boolean,
    integer,
    invalid_type,
    length,
    list_of,
    mapping,
    metadata,
    number,
    one_of,
    required,
    short_text,
    text,
    text_or,
)
from headgate.wire.media import IMAGES, MODERATIONS, SPEECH
from headgate.wire.uploads import EDITS, TRANSCRIPTIONS, TRANSLATIONS, VARIATIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.values import Operation

_INT64 = 2**63 - 1


def _stop(path: str, value: Json) -> None:
    if type(value) is str:
        return
    if type(value) is not list:
        raise invalid_type(path, "one of a string or array of strings", value)
    list_of(text, least=1, most=4, expected="an array")(path, value)


def _tool(path: str, value: Json) -> None:
    mapping(path, value)
    required(path, value, "type", text)
    if value["type"] in {"function", "custom"}:
        required(path, value, value["type"], _function)


def _function(path: str, value: Json) -> None:
    mapping(path, value)
    required(path, value, "name", text)


def _choice(path: str, value: Json) -> None:
    if type(value) is str:
        one_of("none", "auto", "required")(path, value)
        return
    if type(value) is not dict:
        raise invalid_type(path, "one of one of 'none', 'auto', or 'required' or object", value)
    kind = value.get("type")
    if kind in {"allowed_tools", "custom"}:
        required(path, value, kind, mapping)
    else:
        required(path, value, "function", _function)


def _function_call(path: str, value: Json) -> None:
    if type(value) is str:
        one_of("none", "auto")(path, value)
    else:
        _function(path, value)


def _response_format(path: str, value: Json) -> None:
    mapping(path, value)
    required(path, value, "type", one_of("json_object", "json_schema", "text"))
    if value["type"] == "json_schema":
        required(path, value, "json_schema", _function)  # it has a name, too


def _moderation(path: str, value: Json) -> None:
    mapping(path, value)
    required(path, value, "model", text)


def _prediction(path: str, value: Json) -> None:
    mapping(path, value)
    required(path, value, "type", one_of("content"))
    required(path, value, "content", text_or(array, "one of a string or array of objects", (list,)))


def _audio(path: str, value: Json) -> None:
    mapping(path, value)
    required(path, value, "voice", anything)
    required(path, value, "format", text)


def _retention(path: str, value: Json) -> None:
    if type(value) is not str:
        raise invalid_type(path, "one of 'in_memory' or '24h'", value)
    if value not in {"in_memory", "in-memory", "24h"}:
        raise CallerError(f"Invalid {path} argument", param=path)


def _bias(path: str, value: Json) -> None:
    mapping(path, value)
    for token, bias in value.items():
        number(-100, 100)(f"{path}.{token}", bias)


def _stream_options(path: str, value: Json) -> None:
    mapping(path, value)
    for name in ("include_usage", "include_obfuscation"):
        if value.get(name) is not None:
            boolean(f"{path}.{name}", value[name])


def _tokens_or_texts(path: str, value: Json) -> None:
    """Accept [str], [int] or [[int]]."""
    array(path, value, "an array")
    length(path, value, 1, 2048)
    kind = type(value[0])
    if kind is list:
        for index, row in enumerate(value):
            list_of(integer(0, 2**31), least=1, expected="an array")(f"{path}[{index}]", row)
        return
    check: Check = text if kind is str else integer(0, 2**31)
    for index, entry in enumerate(value):
        check(f"{path}[{index}]", entry)


def _embedding_input(path: str, value: Json) -> None:
    if type(value) is str:
        if not value:
            raise CallerError(f"'{path}' cannot be an empty string.", param=path)
        return
    if type(value) is not list:
        raise invalid_type(path, "one of a string or array", value)
    _tokens_or_texts(path, value)


_some_prompt = text_or(_tokens_or_texts, "one of a string or array", (list,))


def _prompt(path: str, value: Json) -> None:
    if value is not None:  # null is a new document
        _some_prompt(path, value)


CHAT: Mapping[str, Check] = {
    "model": text,
    "messages": anything,  # checked by wire.messages, which decodes it once
    "stream": boolean,
    "stream_options": _stream_options,
    "temperature": number(0, 2),
    "top_p": number(0, 1),
    "n": integer(1, 128),
    "stop": _stop,
    "max_tokens": integer(1, 2**31),
    "max_completion_tokens": integer(1, 2**31),
    "frequency_penalty": number(-2, 2),
    "presence_penalty": number(-2, 2),
    "logit_bias": _bias,
    "logprobs": boolean,
    "top_logprobs": integer(0, 20),
    "seed": integer(-_INT64 - 1, _INT64),
    "tools": list_of(_tool, most=128),  # that there is one is for strict hosts to say
    "tool_choice": _choice,
    "parallel_tool_calls": boolean,
    "functions": list_of(_function, most=128, expected="an array of function definitions"),
    "function_call": _function_call,
    "response_format": _response_format,
    "store": boolean,
    "metadata": metadata,
    "user": text,
    "safety_identifier": short_text(64),
    "prompt_cache_key": text,
    "prompt_cache_retention": _retention,
    "prompt_cache_options": mapping,
    "reasoning_effort": one_of("none", "minimal", "low", "medium", "high", "xhigh", "max"),
    "verbosity": one_of("low", "medium", "high"),
    "modalities": list_of(one_of("text", "audio"), expected="an array"),
    "audio": _audio,
    "prediction": _prediction,
    "web_search_options": mapping,
    "moderation": _moderation,
    "service_tier": one_of("auto", "default", "fast", "flex", "priority", "scale"),
}

COMPLETIONS: Mapping[str, Check] = {
    "model": text,
    "prompt": _prompt,
    "stream": boolean,
    "stream_options": _stream_options,
    "temperature": number(0, 2),
    "top_p": number(0, 1),
    "n": integer(1, 128),
    "best_of": integer(0, 20),
    "stop": _stop,
    "max_tokens": integer(0, 2**31),
    "frequency_penalty": number(-2, 2),
    "presence_penalty": number(-2, 2),
    "logit_bias": _bias,
    "logprobs": integer(0, 5),
    "echo": boolean,
    "seed": integer(-_INT64 - 1, _INT64),
    "suffix": text,
    "user": text,
}

EMBEDDINGS: Mapping[str, Check] = {
    "model": text,
    "input": _embedding_input,
    "encoding_format": one_of("float", "base64"),
    "dimensions": integer(1, 2**20),
    "user": text,
}

MEMBERS: Mapping[Operation, Mapping[str, Check]] = {
    "chat": CHAT,
    "completions": COMPLETIONS,
    "embeddings": EMBEDDINGS,
    "moderations": MODERATIONS,
    "images": IMAGES,
    "speech": SPEECH,
    "image_edits": EDITS,
    "image_variations": VARIATIONS,
    "transcriptions": TRANSCRIPTIONS,
    "translations": TRANSLATIONS,
}
REQUIRED: Mapping[Operation, tuple[str, ...]] = {
    "chat": ("model", "messages"),
    "completions": ("model", "prompt"),
    "embeddings": ("model", "input"),
    "moderations": ("input", "model"),
    "images": ("prompt", "model"),
    "speech": ("model", "input", "voice"),
    "image_edits": ("prompt", "model"),
    "image_variations": ("model",),
    "transcriptions": ("model",),
    "translations": ("model",),
}
# Which model is asked where the caller names none.
DEFAULT_MODELS: Mapping[Operation, str] = {
    "moderations": "omni-moderation-latest",
    "image_edits": "gpt-image-1",
    "image_variations": "dall-e-2",
    "images": "gpt-image-1",  # OpenAI's own default was dall-e-2, which it has closed
}
# null means "not given" for every optional member; these say something even then
NOT_NULL = frozenset({"model", "messages", "prompt", "input"})

# What is read as input besides messages, in whatever form a provider renders it.
INPUT_MEMBERS = frozenset(
    {
        "prompt",
        "suffix",
        "input",
        "tools",
        "functions",
        "response_format",
        "tool_choice",
        "function_call",
        "prediction",
        "web_search_options",
    }
)
SHAPED_MEMBERS = frozenset({"tools", "functions", "response_format"})
# Members of compatible hosts that bring no input of their own; others may stand for documents or a search.
SELF_CONTAINED = frozenset(
    {
        "add_generation_prompt",
        "cache_control",
        "chat_template_kwargs",
        "cutoff",
        "do_sample",
        "dynatemp_range",
        "enable_thinking",
        "eos_token_id",
        "frequency_penalty",
        "guided_choice",
        "guided_grammar",
        "guided_json",
        "guided_regex",
        "ignore_eos",
        "include_reasoning",
        "include_stop_str_in_output",
        "keep_alive",
        "length_penalty",
        "max_thinking_tokens",
        "min_p",
        "min_tokens",
        "mirostat",
        "parallel_tool_calls",
        "preserve_thinking",
        "presence_penalty",
        "prompt_truncate_len",
        "provider",
        "random_seed",
        "reasoning",
        "reasoning_effort",
        "reasoning_format",
        "reasoning_split",
        "repeat_penalty",
        "repetition_penalty",
        "request_id",
        "result_format",
        "safe_prompt",
        "safety_settings",
        "skip_special_tokens",
        "stop_token_ids",
        "tfs_z",
        "thinking",
        "thinking_budget",
        "thinking_config",
        "top_a",
        "top_k",
        "top_n_sigma",
        "truncate",
        "truncate_prompt_tokens",
        "typical_p",
        "usage",
        "use_beam_search",
        "user_id",
        "vl_high_resolution_images",
    }
)


def is_own_tool(tool: Mapping[str, Json]) -> bool:
    """Say whether the caller runs a tool; others run at the provider and bring input of their own."""
    return tool.get("type", "function") in {"function", "custom"}
