"""The description of the admin API is true: schemathesis tries every operation of it, alone and in sequences.

`make describe` tries many more cases. What is refused although its schema allows it must be one of the
rules that JSON Schema has no words for.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from schemathesis.engine import events, from_schema
from tests.admin.api import Api
from tests.admin.stripes import SECRET

from headgate.money.terms import PaymentSettings, Terms
from headgate.money.tiers import load_tiers
from headgate.process.admin import TABLE, AdminSettings
from headgate.stores.sql.database import connect
from headgate.stores.sql.terms import put_terms

CASES = int(os.environ.get("ADMIN_CASES", "4"))
RULES = re.compile(
    r"cursor `(after|before)` is none|`after` or `before`, not both|is none of this window"
    r"|(until|end_time)`? must be later than|unknown time zone|limit must be between 1 and \d+ here"
    r"|printable characters|is no (role|e-mail address|pattern|endpoint|address|scope|tier|period|priority)\b"
    r"|metadata|addresses or CIDRs|no such right|Only an admin key has rights|expires_at|Expected `int.*got `float`"
    r"|either an amount of money, or tokens|Tokens are of a model|A top-up is at least|that is not 0, and a note"
    r"|Want a tier, or some|wanted\.|A reason has|Missing required parameter: 'user_id'|at least one of rpm"
    r"|Say in which project|grace_s must be|has at most|Stripe|signature|origin|host|no token of a mail"
    r"|budget goes beyond|JSON body"
)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    terms = Terms(prepaid=True, signup=5_000_000_000, signup_days=90, minimum=1, tier="free")
    settings = AdminSettings(PaymentSettings(stripe_secret=SECRET), keks=(b"k" * 32,))
    api = Api(tmp_path, settings, terms)
    with closing(connect(tmp_path)) as sql:
        put_terms(sql, 1, terms, load_tiers(), time.time_ns() // 1000)
    yield api
    assert api.faults == []


@pytest.mark.timeout(600)  # half a minute of CPU, which a busy machine gives late
def test_what_is_described_is_served(api: Api) -> None:
    config = schemathesis.Config.from_str(
        f'seed = 20251124\n[generation]\nmax-examples = {CASES}\ndatabase = "none"\n'
    )
    schema = schemathesis.openapi.from_asgi("/admin/v1/openapi.json", api.app, config=config)
    schema.config.headers = {"Authorization": f"Bearer {api.root}"}
    tried: set[str] = set()
    checks: set[str] = set()
    broken: list[str] = []
    for event in from_schema(schema).execute():
        assert not isinstance(event, (events.NonFatalError, events.FatalError)), event
        if isinstance(event, events.ScenarioFinished):
            tried |= {node.value.operation.label for node in event.recorder.cases.values()}
            checks |= {check.name for found in event.recorder.checks.values() for check in found}
            broken += _broken(event.recorder)
    assert not broken, "\n\n".join(broken)
    assert tried == {f"{route.method} {route.path}" for route in TABLE.routes}
    assert {
        "not_a_server_error", "status_code_conformance", "content_type_conformance",
        "response_schema_conformance", "negative_data_rejection", "positive_data_acceptance", "ignored_auth",
        "use_after_free", "unsupported_method",
    } <= checks  # fmt: skip


def _broken(recorder: Any) -> Iterator[str]:
    for case_id, checks in recorder.checks.items():
        for check in checks:
            if check.failure_info is None:
                continue
            case = recorder.cases[case_id].value
            response = recorder.interactions[case_id].response
            body = response.content if response is not None else b""
            if check.name == "positive_data_acceptance" and RULES.search(_message(body)):
                continue
            failure = check.failure_info.failure
            yield (
                f"{check.name}: {failure.title} {failure.message}\n{case.method} {case.formatted_path} "
                f"{case.query} {case.headers} {case.body}\n{body[:500]!r}"
            )


def _message(body: bytes) -> str:
    return str(json.loads(body)["error"]["message"])
