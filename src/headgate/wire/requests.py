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
    missing,
    number,
    one_of,
    short_text,
    text,
    text_or,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.values import Operation

_INT64 = 2**63 - 1


def _stop(path: str, value: Json) -> None:
    if type(value) is str:
        return
    if type(value) is not list:
        raise invalid_type(path, "one of a string or array of strings", value)
    list_of(text, least=1, most=4)(path, value)


def _tool(path: str, value: Json) -> None:
    mapping(path, value)
    if "type" not in value:
        raise missing(f"{path}.type")
    text(f"{path}.type", value["type"])
    if value["type"] == "function":
        function = value.get("function")
        if function is None:
            raise missing(f"{path}.function")
        mapping(f"{path}.function", function)
        if "name" not in function:
            raise missing(f"{path}.function.name")
        text(f"{path}.function.name", function["name"])


def _choice(path: str, value: Json) -> None:
    if type(value) is str:
        one_of("none", "auto", "required")(path, value)
    else:
        mapping(path, value)


def _response_format(path: str, value: Json) -> None:
    mapping(path, value)
    if "type" not in value:
        raise missing(f"{path}.type")
    one_of("text", "json_object", "json_schema")(f"{path}.type", value["type"])
    if value["type"] == "json_schema":
        schema = value.get("json_schema")
        if schema is None:
            raise missing(f"{path}.json_schema")
        mapping(f"{path}.json_schema", schema)
        if "name" not in schema:
            raise missing(f"{path}.json_schema.name")


def _stream_options(path: str, value: Json) -> None:
    mapping(path, value)
    for name in ("include_usage", "include_obfuscation"):
        if value.get(name) is not None:
            boolean(f"{path}.{name}", value[name])


def _metadata(path: str, value: Json) -> None:
    mapping(path, value)
    if len(value) > 16:
        raise CallerError(
            f"Invalid '{path}': too many properties. Expected an object with at most 16 properties, "
            f"but got an object with {len(value)} properties instead.",
            param=path,
            code="object_above_max_properties",
        )
    for name, entry in value.items():
        short_text(512)(f"{path}.{name}", entry)


def _tokens_or_texts(path: str, value: Json) -> None:
    """Accept [str], [int] or [[int]]."""
    array(path, value)
    length(path, value, 1, 2048)
    kind = type(value[0])
    if kind is list:
        for index, row in enumerate(value):
            list_of(integer(0, 2**31), least=1)(f"{path}[{index}]", row)
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


_prompt = text_or(_tokens_or_texts, "one of a string or array", (list,))

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
    "logit_bias": mapping,
    "logprobs": boolean,
    "top_logprobs": integer(0, 20),
    "seed": integer(-_INT64 - 1, _INT64),
    "tools": list_of(_tool, most=128),
    "tool_choice": _choice,
    "parallel_tool_calls": boolean,
    "functions": array,
    "function_call": anything,
    "response_format": _response_format,
    "store": boolean,
    "metadata": _metadata,
    "user": text,
    "safety_identifier": short_text(64),
    "prompt_cache_key": text,
    "prompt_cache_retention": text,
    "prompt_cache_options": mapping,
    "reasoning_effort": one_of("none", "minimal", "low", "medium", "high", "xhigh", "max"),
    "verbosity": one_of("low", "medium", "high"),
    "modalities": list_of(text),
    "audio": mapping,
    "prediction": mapping,
    "web_search_options": mapping,
    "moderation": anything,
    "service_tier": one_of("auto", "default", "flex", "scale", "priority", "fast"),
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
    "logit_bias": mapping,
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
}
REQUIRED: Mapping[Operation, tuple[str, ...]] = {
    "chat": ("model", "messages"),
    "completions": ("model", "prompt"),
    "embeddings": ("model", "input"),
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
