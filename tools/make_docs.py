"""Write the reference pages in docs/ from the code: settings, errors, metrics, simulator, command line.

`make docs` writes them; a test runs `--check` and fails when a page is not what the code says.
"""

from __future__ import annotations

import sys
import types
import typing
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from provider_notes import BEDROCK, PLACES, ROOM

from headgate import config, errors
from headgate.admission.limits import LimitSettings
from headgate.http.dataplane import NOT_SERVED
from headgate.money.batchterms import BatchModel, BatchSettings
from headgate.money.ownprices import PriceOverride
from headgate.money.prices import Margin
from headgate.money.terms import ModeSettings, PaymentSettings
from headgate.money.tiers import ModelLimitRow, TierRow
from headgate.observe import prometheus
from headgate.providers.registry import known_hosts
from headgate.routing.breaker import BreakerTerms
from headgate.routing.demands import DemandSettings
from headgate.routing.hedging import HedgeTerms
from headgate.routing.probes import ProbeTerms
from headgate.routing.retries import RetryTerms
from headgate.routing.settings import Canary, Route, RouteTarget, Shadow
from headgate.settings.files import FileSettings
from headgate.settings.recordings import RecordingSettings
from headgate.settings.storage import Storage
from headgate.transport.mail import MailSettings
from headgate.transport.simulator.faults import FAULTS
from headgate.transport.simulator.wishes import DIRECTIVES, HEADER, PREFIX
from headgate.values import Deadlines, When

DOCS = Path(__file__).parent.parent / "docs"
SECTIONS = {
    "server": config.Server,
    "storage": Storage,
    "budget": config.Budget,
    "prices": config.PriceSettings,
    "deadlines": Deadlines,
    "[[keys]]": config.KeySettings,
    "[[demands]]": DemandSettings,
    "[[providers]]": config.Provider,
    "[[models]]": Route,
    "[[models]] targets": RouteTarget,
    "[[models]] when": When,
    "[[models]] canary": Canary,
    "[[models]] shadow": Shadow,
    "[[models]] hedge": HedgeTerms,
    "[prices] rows": PriceOverride,
    "[prices] margins": Margin,
    "mode": ModeSettings,
    "payments": PaymentSettings,
    "mail": MailSettings,
    "files": FileSettings,
    "batch": BatchSettings,
    "[[batch.models]]": BatchModel,
    "limits": LimitSettings,
    "retries": RetryTerms,
    "breaker": BreakerTerms,
    "status": config.StatusSettings,
    "probes": ProbeTerms,
    "secrets": config.SecretSettings,
    "recordings": RecordingSettings,
    "[[tiers]]": TierRow,
    "[[tiers]] models": ModelLimitRow,
}
EXAMPLE = """```toml
[server]
port = 8787

[budget]
cap = "20/month"

[[providers]]                     # any OpenAI-compatible host, in five lines
name = "mycorp"
base_url = "https://llm.mycorp.example/v1"
api_key = "env:MYCORP_API_KEY"
models = ["mycorp-*"]

[[models]]
name = "gpt-4o"
targets = [{ provider = "openai", model = "gpt-4o" }]
fallback = ["gpt-4o-mini"]

[aliases]
"gpt-3.5-turbo" = "deepseek-flash"

[prices]
rows = [{ provider = "mycorp", model = "mycorp-large", input = "0.50", output = "1.50" }]
margins = [{ ppm = 100_000, provider = "openai" }]   # customers pay 10 % more
```
"""


def comments(kind: type) -> dict[str, str]:
    """Return the comment behind each member of a struct, read from its source."""
    import inspect

    found = {}
    own = [each for each in reversed(kind.__mro__) if each.__module__.startswith("headgate.")]
    for line in "".join(map(inspect.getsource, own)).splitlines():
        name, colon, rest = line.strip().partition(":")
        if colon and name.isidentifier() and "#" in rest:
            found[name] = rest.split("#", 1)[1].strip()
    return found


ABOUT = (
    "# Settings",
    "",
    "One TOML file, optional: `headgate serve --config headgate.toml`. Flags win over the file. What is wrong",
    "in it is said with its line: `headgate.toml, line 12: provider 'mycorp': kind 'opnai' is none of …`;",
    "`headgate config check` looks without a start.",
    "",
    "Providers, models, aliases, prices, deadlines, rules for keys and demands follow the file while it serves, within a second or",
    "two; the rest waits for the next start, and the log says so. A wrong file changes nothing, and neither does one that was emptied,",
    "or that names no provider any more where the environment names none either: the log says `the changed settings are not used`,",
    "and what served goes on. To serve without any provider of the file on purpose, write `providers = []`.",
    "",
)


def settings() -> str:
    out = [*ABOUT, EXAMPLE]
    for title, kind in SECTIONS.items():
        said = comments(kind)
        out += [
            f"## {title}",
            "",
            (kind.__doc__ or "").strip().splitlines()[0],
            "",
            "| name | type | default | meaning |",
            "|---|---|---|---|",
        ]
        for field in msgspec.structs.fields(kind):
            default = "required" if field.required else _default(field)
            out.append(f"| `{field.name}` | {_kind(field.type)} | {default} | {said[field.name]} |")
        out.append("")
    out += [
        PLACES,
        "## Providers by environment",
        "",
        "Each is switched on by its variable, from the environment or `.env`.",
        "",
        "| name | provider | variable | address |",
        "|---|---|---|---|",
    ]
    for name, host in known_hosts().items():
        variables = " or ".join(f"`{key}`" for key in (*host.keys, *([host.url_env] if host.local else [])))
        address = f"`{host.base_url}`"
        if not host.base_url:
            address = f"`{'` or `'.join(host.env['base_url'])}`, which is needed"
        out.append(f"| `{name}` | {host.title} | {variables} | {address} |")
    out += [
        "",
        "Also read: `HEADGATE_DATA` (data folder), `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`,",
        "`HEADGATE_FAILPOINTS` (tests). Never read: `OPENAI_BASE_URL`, and any key that begins with `sk-hg-`: they are your programs'.",
        "",
        *BEDROCK.splitlines(),
        "",
        "## Deadlines",
        "",
        "The defaults suit every model: connect 5 s, first byte 120 s, between frames 60 s, total 590 s (the SDKs stop at 600).",
        "For a chat that people wait for, 30 to 60 seconds in all is the interactive profile: `[deadlines] first_byte_s = 30,",
        "between_frames_s = 15, total_s = 60`.",
        "",
        *ROOM.splitlines(),
        "",
    ]
    return "\n".join(out)


_KINDS = {
    bool: "`true` or `false`",
    int: "whole number",
    float: "number",
    str: "text",
    Decimal: "number or text",
}


def _kind(kind: Any) -> str:
    """Return what may stand there in TOML."""
    if kind in _KINDS:
        return _KINDS[kind]
    inner = [each for each in typing.get_args(kind) if each not in {type(None), Ellipsis}]
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        return " or ".join(f"`{each}`" for each in inner)
    if origin is tuple:
        tables = isinstance(inner[0], type) and issubclass(inner[0], msgspec.Struct)
        return f"list of {'tables' if tables else 'texts'}"
    if len(inner) > 1 and origin in {typing.Union, types.UnionType}:
        return " or ".join(map(_kind, inner))
    return _kind(inner[0]) if len(inner) == 1 else "table"


def _default(field: msgspec.structs.FieldInfo) -> str:
    value = field.default
    if value is msgspec.NODEFAULT and field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`" if value or value == 0 else ""


def error_rows(kind: type[errors.GatewayError]) -> list[str]:
    retry = {None: "by the client's own rule", False: "no", True: "yes"}[kind.retry]
    doc = (kind.__doc__ or "").strip().splitlines()[0]
    rows = [
        f"| {kind.status} | `{kind.type}` | `{kind.default_code or ''}` | {doc} | {retry} |".replace("``", "")
    ]
    for child in kind.__subclasses__():
        rows += error_rows(child)
    return rows


def error_page() -> str:
    out = [
        "# Errors",
        "",
        'Always `{"error": {"message", "type", "param", "code"}}`, with `x-request-id`. After the head of a stream an error is one',
        "event of that shape and no `[DONE]` follows. A provider's own 400, 404, 409, 413, 415, 422, 429, 500 and 503 keep their status.",
        "",
        "| status | type | code | meaning | retry |",
        "|---|---|---|---|---|",
        *error_rows(errors.GatewayError)[1:],
        "",
        "Codes of a request's own faults: `missing_required_parameter`, `unknown_parameter`, `invalid_type`, `invalid_value`,",
        "`decimal_below_min_value`, `decimal_above_max_value`, `integer_below_min_value`, `integer_above_max_value`, `empty_array`,",
        "`array_above_max_length`, `empty_string`, `string_above_max_length`, `object_above_max_properties`,",
        "`property_name_above_max_length`, `invalid_parameter_combination`, `context_length_exceeded`, `model_not_found`,",
        "`unknown_url`.",
        "",
        "## Routes of OpenAI that are not served",
        "",
        "Of chat, images, audio, videos and realtime: those besides the ones that are.",
        "",
        "| route | instead |",
        "|---|---|",
        *(f"| `/v1/{name}` | {advice} |" for name, advice in NOT_SERVED.items()),
        "",
    ]
    return "\n".join(out)


def metrics_page() -> str:
    out = [
        "# Metrics",
        "",
        "`GET /metrics`, in Prometheus' text format. Labels: operation, provider, model, book, status.",
        "",
        "| name | kind | meaning |",
        "|---|---|---|",
    ]
    out += [f"| `{name}_total` | counter | {text} |" for name, text, _ in prometheus.COUNTERS]
    out += ["| `headgate_call_seconds` | histogram | From OPEN to settlement |"]
    out += [
        "| `headgate_refusals_total` | counter | Calls refused before any attempt, by operation, status and code |"
    ]
    out += ["| `headgate_absorbed_nano_usd_total` | counter | Cost above holds, the house's |"]
    out += [
        f"| `{name}_total` | counter | {text}; labels: {', '.join(labels)} |"
        for name, (text, labels) in prometheus.COUNTS.items()
    ]
    out += [f"| `{name}` | gauge | {text} |" for name, text in prometheus.GAUGES.items()]
    out += ["", "Of targets ([status.md](status.md)):", "", "| name | labels | meaning |", "|---|---|---|"]
    totals = {prometheus.ATTEMPTS, prometheus.RETRIES}
    out += [
        f"| `{name}{'_total' if name in totals else ''}` | {', '.join(labels)} | {text} |"
        for name, text, labels in prometheus.TARGETS
    ]
    out += [f"| `{name}` | provider, model | {text} |" for name, text, _ in prometheus.TARGET_GAUGES]
    return "\n".join([*out, ""])


def simulator_page() -> str:
    out = [
        "# The simulator",
        "",
        "It answers where no provider was ever configured, where a `test` key asks, where a route names the provider",
        "`simulator`, and alone on a port of its own: `headgate sim`. It obeys trivial instructions in English and Chinese (say,",
        "repeat, count, calculate), fills schemas and the arguments of tools from the prompt, counts tokens as the real model",
        "does, and is paid in play money. Every answer carries `x-headgate-simulated: true`. Only where a route names it",
        "does a key that is no `test` key pay from its own budgets and credit, at the real model's price: give programs that play a `test` key.",
        "A model that the settings name it plays as the first of its targets that is widely known, else as one that nobody",
        "knows, at the price of the first; hedges, shadows and canaries are left out.",
        "",
        "It fails as it is asked to, by the name of a model or by a header, which wins:",
        "",
        "```sh",
        ".venv/bin/headgate chat hello --model sim-429",
        'curl $OPENAI_BASE_URL/chat/completions -H "Authorization: Bearer $OPENAI_API_KEY" \\',
        f"  -H '{HEADER}: fault=stall; delay_ms=200' \\",
        """  -d '{"model": "gpt-4o", "stream": true, "messages": [{"role": "user", "content": "Count to 20"}]}'""",
        "```",
        "",
        f"| in `{HEADER}` | does |",
        "|---|---|",
        *(f"| `{name}=` | {does} |" for name, does in DIRECTIVES.items()),
        "",
        "## Faults",
        "",
        "| model | the provider that it plays | status |",
        "|---|---|---|",
    ]
    for fault in FAULTS.values():
        amount = f", `{PREFIX}{fault.name}-{fault.amount}`" if fault.amount else ""
        out.append(f"| `{PREFIX}{fault.name}`{amount} | {fault.does} | {fault.status or ''} |")
    return "\n".join([*out, ""])


ADMIN = """# The admin API

Whatever the commands do can be done over HTTP. Make a key for it, on the machine that has the data folder:

```sh
.venv/bin/headgate keys create --name root --kind admin
export OPENAI_ADMIN_KEY=sk-hg-adm-...
curl http://127.0.0.1:8787/admin/v1/projects -H "Authorization: Bearer $OPENAI_ADMIN_KEY"
```

Such a key may do everything. `POST /admin/v1/keys` makes others for members, who may do with them what their role allows,
and with `rights` for one purpose: `{"name": "reports", "kind": "admin", "rights": ["usage.read"]}`. An admin key makes no
calls, and a key that makes calls does not administer.

- `GET /admin/v1/openapi.json` describes every route (OpenAPI 3.1); a test holds the API to it.
- Money is integer nano-USD (1 USD is 1,000,000,000), instants are integer microseconds since 1970 in UTC, 0: never.
- Lists take `limit` (1 to 100), `order`, `after` and `before` (ids), and answer `data`, `first_id`, `last_id`, `has_more`.
- A write with an `Idempotency-Key` happens once: for 24 hours the same request is answered alike, with
  `x-headgate-replayed: true`, though without secrets, which are shown once and stored nowhere.
- Every change, and every one that was refused to a known key, is one row of the audit.
- A thing of another account, one that you may not see and one that does not exist are all 404, in the same words.
- Errors have OpenAI's shape, see [errors](errors.md).

## With OpenAI's SDK

```python
from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8787/v1", api_key="unused", admin_api_key="sk-hg-adm-...")
project = client.admin.organization.projects.create(name="shop")
robot = client.admin.organization.projects.service_accounts.create(project.id, name="robot")
print(robot.api_key.value)  # a key that makes calls, shown once
client.admin.organization.projects.spend_limit.update(
    project.id,
    currency="USD",
    interval="month",
    threshold_amount=2_000,  # cents
)
for bucket in client.admin.organization.usage.costs(start_time=1764000000, group_by=["project_id"]).data:
    print(bucket.start_time, [(each.project_id, each.amount.value) for each in bucket.results])
```

- The organization is the account of the key; with a key of the gateway, the one that `OpenAI-Organization` names
  (`OpenAI(organization="acct_...")`), or else all of them in lists and sums.
- OpenAI's role `reader` is our `developer`. Other roles of ours are shown by their names, and can be given.
- A spend limit is a hard budget of the calendar month in UTC, in real and in play money alike.
- A rate limit's id is `rl-` and a model or a pattern of models, `rl-*` of all; 2147483647 stands for no limit.
- Usage and costs are exact sums of the books, the same as `headgate usage`. Buckets begin at multiples of their width in UTC;
  the first and the last are cut to what was asked for. A line item is a model. `book=sim` shows play money
  (`extra_query={"book": "sim"}`); without it real money, unless only play money was ever spent. Kinds of usage that no call
  here has yet are empty. `owner_project_access` tells whether the owner of a key is a member still.
- What is not served (certificates, groups, roles, invites, ...) is 404 and says so. Members are taken in by
  `POST /admin/v1/members`.

## Sign-up and payment

Open where the gateway serves prepaid (`[mode] name = "prepaid"`). `POST /admin/v1/signup` sends a mail, by SMTP or into a
folder (`[mail]` in the [settings](settings.md)), at most 20 in an hour for each address that asks; `POST
/admin/v1/signup/verify` with its token opens the account and shows its two keys. Stripe delivers to
`/admin/v1/webhooks/stripe` once `[payments] stripe_secret` is set, at least 24 characters; without it the endpoint is off. A
checkout names the account in `client_reference_id`. An event is booked once, however often it comes.

## Routes

"Takes" is what a role, or a key with `rights`, must allow: for projects, keys and what belongs to them also the role in that
project. `own`: any admin key. `public`: no key.
"""


def admin_page() -> str:
    """Return what the admin API is, and its table."""
    from headgate.process.admin import TABLE

    out = [ADMIN]
    for title, openai in (("Our own", False), ("OpenAI's", True)):
        out += [f"### {title}", "", "| route | does | takes |", "|---|---|---|"]
        for route in TABLE.routes:
            if route.openai is openai:
                out.append(f"| `{route.method} {route.path}` | {route.summary} | `{route.permission}` |")
        out.append("")
    return "\n".join(out)


def cli_page() -> str:
    """Return the help of every command."""
    import click

    from headgate.__main__ import cli

    out = ["# Command line", ""]

    def walk(command: click.Command, path: str) -> None:
        with click.Context(command, info_name=path, terminal_width=100) as context:
            out.extend([f"## {path}", "", "```", command.get_help(context), "```", ""])
            if isinstance(command, click.Group):
                for name in command.list_commands(context):
                    child = command.get_command(context, name)
                    if child is not None and not child.hidden:
                        walk(child, f"{path} {name}")

    walk(cli, "headgate")
    return "\n".join(out)


PAGES = {
    "settings.md": settings,
    "errors.md": error_page,
    "metrics.md": metrics_page,
    "simulator.md": simulator_page,
    "cli.md": cli_page,
    "admin-api.md": admin_page,
}


def main() -> int:
    stale = []
    for name, make in PAGES.items():
        text = make()
        page = DOCS / name
        if "--check" in sys.argv:
            if not page.is_file() or page.read_text(encoding="utf-8") != text:
                stale.append(name)
        else:
            page.write_text(text, encoding="utf-8")
            print("wrote", page.relative_to(DOCS.parent))
    if stale:
        print("not what the code says, run `make docs`:", *stale)
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
