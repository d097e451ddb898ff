"""The OpenAPI 3.1 description of the admin API, made from the table that serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from headgate import __version__
from headgate.admin.table import PUBLIC, Nothing

if TYPE_CHECKING:
    from headgate.admin.table import Route, Table

_REFERENCE: Final = "#/components/schemas/{name}"
_ERROR: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_REFUSALS: Final = {
    "400": "The request must change before it can be served.",
    "401": "No admin key, or one that is not valid.",
    "403": "The key may not do this.",
    "404": "There is no such object, or not for this key.",
    "409": "The state of the object does not allow this, or the idempotency key has another request.",
    "413": "The body is too large.",
    "415": "The body comes in a form that is not read here.",
    "429": "A limit of the gateway holds the request back.",
    "503": "The books cannot be written now.",
}


def describe(table: Table) -> dict[str, Any]:
    """Return the description as a JSON value."""
    types = {each for route in table.routes for each in (route.answer, route.body) if each is not Nothing}
    ordered = sorted(types, key=str)
    _, schemas = msgspec.json.schema_components(ordered, schema_hook=_anything, ref_template=_REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for route in table.routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Headgate admin API",
            "version": __version__,
            "description": "Money is integer nano-USD, instants are integer microseconds UTC (0: never).",
        },
        "paths": paths,
        "components": {
            "schemas": {**schemas, "Error": _ERROR},
            "securitySchemes": {
                "adminKey": {"type": "http", "scheme": "bearer", "description": "A key `sk-hg-adm-…`."}
            },
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": [*_path_parameters(route), *_query_parameters(route), *_header_parameters(route)],
        "responses": {
            str(route.status): {"description": "Done.", "content": _json(_reference(route.answer))},
            **{
                status: {"description": text, "content": _json({"$ref": "#/components/schemas/Error"})}
                for status, text in _REFUSALS.items()
            },
        },
        "x-permission": route.permission,
        "security": [] if route.permission == PUBLIC else [{"adminKey": []}],
    }
    if route.raw:
        described["requestBody"] = {"required": True, "content": _json({})}
    elif route.body is not Nothing:
        described["requestBody"] = {"required": True, "content": _json(_reference(route.body))}
    return described


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in route.parameters
    ]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    if route.query is Nothing:
        return []
    _, schemas = msgspec.json.schema_components([route.query], ref_template=_REFERENCE)
    members = schemas[route.query.__name__]
    required = members.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": schema}
        for name, schema in members["properties"].items()
    ]


def _header_parameters(route: Route) -> list[dict[str, Any]]:
    if not route.repeatable:
        return []
    about = "Makes a repeated write harmless: the first answer is given again for 24 hours."
    schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"}
    return [
        {"name": "Idempotency-Key", "in": "header", "required": False, "description": about, "schema": schema}
    ]


def _anything(kind: type) -> dict[str, Any]:
    """Describe a member that may be any JSON value."""
    if kind is not object:
        raise NotImplementedError
    return {"description": "Any JSON value."}


def _reference(kind: Any) -> dict[str, Any]:
    (schema,), _ = msgspec.json.schema_components([kind], schema_hook=_anything, ref_template=_REFERENCE)
    return schema


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
