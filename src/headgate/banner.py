"""What a start prints: who answers, and all that the first call needs, each line of it to be pasted."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.money.amounts import format_usd, parse_cap
from headgate.program import advise, interpreter, without_password

if TYPE_CHECKING:
    from headgate.app import App
    from headgate.config import Config
    from headgate.money.terms import Terms

# Unindented: it is copied from a terminal with whatever stands before it.
_CURL = """\
curl {base}/chat/completions -H 'Content-Type: application/json' \\
  -H "Authorization: Bearer {key}" \\
  -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Say hello"}}]}}'"""
_PYTHON = """\
from openai import OpenAI
client = OpenAI({arguments})
hello = [{{"role": "user", "content": "Say hello"}}]
answer = client.chat.completions.create(model="{model}", messages=hello)
print(answer.choices[0].message.content)"""
_VARIABLES = "OPENAI_API_KEY, DEEPSEEK_API_KEY, DASHSCOPE_API_KEY, ..."


def banner(app: App, first_key: str) -> str:
    """Return what a person needs to make the first call.

    Args:
        app: which serves already.
        first_key: the key that this start made; empty if there are keys.
    """
    base, model = _base(app), app.example_model()
    if app.config.options.worker:
        return "\n".join(_at_work(app, base))
    arguments = f'base_url="{base}", api_key="{first_key}"' if first_key else ""
    return "\n".join(
        [
            *_about(app, base),
            "",
            *_key(app, base, first_key),
            "",
            "Try it:",
            _CURL.format(base=base, key=first_key or "$OPENAI_API_KEY", model=model),
            "",
            f"Or in Python (save as example.py, run with {interpreter()} example.py):",
            _PYTHON.format(arguments=arguments, model=model),
            "",
            "Ctrl-C stops it.",
        ]
    )


def _at_work(app: App, base: str) -> list[str]:
    """Return what a process says that runs batches and takes no calls."""
    said = [f"Runs batches; health and metrics are on {base.removesuffix('/v1')}/readyz and /metrics"]
    if app.config.storage.queue:
        said.append("The broker calls when there is work")
    return [*said, *_answers_come_from(app), "Ctrl-C stops it."]


def _base(app: App) -> str:
    host, port = app.server.addresses[0]
    if ip_address(host).is_unspecified:  # every address of this machine: one that can be called
        host = "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"


def _books(config: Config) -> str:
    storage = config.storage
    return (
        f"{without_password(storage.database)}, journals in {storage.data}"
        if storage.database
        else storage.data
    )


def _about(app: App, base: str) -> list[str]:
    config = app.config
    lines = [f"Headgate serves on {base}", f"Books: {_books(config)}", *_answers_come_from(app)]
    lines.append(f"Mode: {_mode(config.terms)}")
    if config.ignored:
        lines.append(f"Left to your programs: {', '.join(config.ignored)}")
    if config.budget.cap:
        amount, unit = parse_cap(config.budget.cap)
        lines.append(f"Cap: {format_usd(amount)} {'in total' if unit == 'total' else f'per {unit}'}")
    return lines


def _mode(terms: Terms) -> str:
    if not terms.prepaid:
        return "internal; no credit needed"
    if not terms.signup:
        return "prepaid; accounts spend credit and nothing else"
    until = f" for {terms.signup_days} days" if terms.signup_days else ""
    return f"prepaid; accounts spend credit, and begin with {format_usd(terms.signup)}{until}"


def _key(app: App, base: str, first_key: str) -> list[str]:
    if first_key:
        return [f"Your key, shown only once: {first_key}"]
    # A key cannot be shown again, so a shell that has none gets one of its own.
    create = advise("keys create --name me", Path(app.config.storage.data))
    return [
        "For your programs, with a new key:",
        f"export OPENAI_BASE_URL={base}",
        f"export OPENAI_API_KEY=$({create})",
    ]


def _answers_come_from(app: App) -> list[str]:
    config = app.config
    if config.simulate:
        return [
            "The simulator answers every call, in play money.",
            "  Models fail as they are named: sim-429, sim-500, sim-503, ...",
        ]
    if app.simulating:
        return [
            "Providers: none found, so the simulator answers, in play money.",
            f"  Set {_VARIABLES} and start again for real models.",
        ]
    if config.found:
        return [f"Providers: {', '.join(config.found)}", *_without_key(config)]
    played = ", ".join(route.name for route in config.routes.values() if route.simulated)
    if played:
        return [
            f"Providers: none found. The simulator answers {played}, as the file says.",
            f"  No other model is served: set {_VARIABLES} and start again for real ones.",
        ]
    return [
        f"Providers: none found. Calls get 503 until one is configured: set {_VARIABLES}",
        "  The simulator does not step in: this data folder has had a provider, or there is a configuration.",
    ]


def _without_key(config: Config) -> list[str]:
    names = [host.name for host in config.hosts if host.keyless]
    return [f"  Without a key: {', '.join(names)}"] if names else []
