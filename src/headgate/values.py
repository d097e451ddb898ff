"""The values that travel: money, usage, prices, principals, targets. Frozen, no I/O.

Units: money is integer nano-USD, prices are integer pico-USD per token, wall time is integer
microseconds UTC, durations and deadlines are monotonic nanoseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from headgate.buckets import Bucket, Handover
from headgate.callstate import CallState, set_at_once
from headgate.credentials import Bearer, Signing, TokenSource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from headgate.ports import Face
    from headgate.waits import Deadline
    from headgate.wire.forms import Part

NanoUSD: TypeAlias = int
PicoUSD: TypeAlias = int
WallMicros: TypeAlias = int
MonotonicNs: TypeAlias = int

Pairs: TypeAlias = tuple[tuple[str, str], ...]  # headers of a request
# Counts, or pico-USD prices, of what is not a token: `second`, `character`, `image:1024x1024:hd`, …
Units: TypeAlias = tuple[tuple[str, int], ...]

PICO_PER_NANO = 1_000
NANO_PER_USD = 1_000_000_000

Operation = Literal[
    "chat", "completions", "embeddings", "moderations", "realtime", "images", "videos", "speech",
    "image_edits", "image_variations", "transcriptions", "translations", "files", "batches",
]  # fmt: skip
VideoStatus = Literal["queued", "in_progress", "completed", "failed"]
BUILT_IN = "built-in"  # the kind of the host that is our own code, and costs nothing
LEXICAL = "headgate-lexical"  # its model: word lists
# What a host does for an answer's schema: keeps to it; takes it, perhaps keeps to it; makes JSON; nothing.
Schemas = Literal["enforced", "tried", "json", "none"]
# Who runs batches: we; the host's own batch API; that, and we where it refuses one.
BatchRunner = Literal["own", "provider", "provider-first"]


class Book(IntEnum):
    """Which money a call spends: `REAL` dollars, or the simulator's play money."""

    REAL = 0
    SIM = 1

    @property
    def label(self) -> str:
        """Return the name people see: `real` or `sim`."""
        return self.name.lower()


class Usage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Tokens of one attempt, as OpenAI counts them, and what it used in other units.

    `input_tokens` includes the cached, cache-write and audio parts; `output_tokens` includes the
    reasoning and audio parts. Every field but `more` is a non-negative count of tokens.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    more: Units = ()  # counts in other units, by their names; they cost on top of the tokens


class Prices(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The unit prices of one target, fixed for a call when it opens: pico-USD per token.

    A part without a price of its own carries the price that it falls back to (`cached_input` the
    input's, `reasoning` the output's), so arithmetic never asks. When the call's input is longer
    than `long_above` tokens (0: never), `long` holds the prices of the whole call.

    A row of `more` is the price of one such unit. Its name stands for longer ones: where there is no row
    `image:1024x1024:hd`, the row `image:1024x1024` holds, else the row `image`.
    """

    input: PicoUSD = 0
    output: PicoUSD = 0
    cached_input: PicoUSD = 0
    cache_write: PicoUSD = 0
    reasoning: PicoUSD = 0
    input_audio: PicoUSD = 0
    output_audio: PicoUSD = 0
    request: PicoUSD = 0  # a fee per call, in pico-USD
    long_above: int = 0
    long: Prices | None = None
    more: Units = ()  # pico-USD for one unit, on top of what the tokens cost

    def dearest(self) -> tuple[PicoUSD, PicoUSD, PicoUSD]:
        """Return what a token of the input, one of the output and a call by itself cost at the most."""
        given = max(self.input, self.cached_input, self.cache_write, self.input_audio)
        return given, max(self.output, self.reasoning, self.output_audio), self.request


MAX_LIMIT = 2**31 - 1


class Limits(msgspec.Struct, frozen=True, gc=False):
    """How much may be used; 0: no limit."""

    rpm: int = 0  # requests per minute
    tpm: int = 0  # tokens per minute
    rpd: int = 0  # requests per day
    tpd: int = 0  # tokens per day
    concurrency: int = 0  # calls at once

    def wrong(self) -> str:
        """Return what is wrong with the numbers, or an empty text."""
        for name in self.__struct_fields__:
            if not 0 <= getattr(self, name) <= MAX_LIMIT:
                return f"{name} must be between 0 (none) and {MAX_LIMIT}"
        return ""


class Ceiling(msgspec.Struct, frozen=True, gc=False):
    """What a key can do at most, or what one that it makes can. Empty or 0: without bound."""

    models: tuple[str, ...] = ()  # patterns: `*` stands for any characters
    endpoints: tuple[str, ...] = ()  # operations
    networks: tuple[str, ...] = ()  # CIDRs
    expires_at: WallMicros = 0
    rpm: int = 0
    tpm: int = 0
    rpd: int = 0
    tpd: int = 0
    concurrency: int = 0


class Principal(msgspec.Struct, frozen=True, gc=False):
    """Who calls: the key and what stands behind it (internal ids), and the book it spends from."""

    key: int
    project: int
    account: int
    member: int = 0
    book: Book = Book.REAL
    name: str = ""
    rpm: int = 0  # requests per minute; 0: no limit
    tpm: int = 0  # tokens per minute; 0: no limit
    concurrency: int = 0  # calls at once; 0: no limit
    expires_at: WallMicros = 0  # 0: never
    account_id: str = ""  # public ids, for response headers
    project_id: str = ""
    rpd: int = 0  # requests per day; 0: no limit
    tpd: int = 0  # tokens per day; 0: no limit
    models: tuple[str, ...] = ()  # patterns of the models that it may call; (): all
    endpoints: tuple[str, ...] = ()  # operations that it may call; (): all
    networks: tuple[str, ...] = ()  # CIDRs that it may call from; (): everywhere
    queue_ms: int = 0  # how long a call may wait for a limit; 0: 429 at once
    priority: Literal["interactive", "batch"] = "interactive"
    prepaid: bool = False  # its account spends credit and nothing else
    tier: str = ""  # of its account; empty: no tier limits
    multiplier_ppm: int = 1_000_000  # of every price, for its account


class RoomTerms(msgspec.Struct, frozen=True, gc=False):
    """How many calls may be at a provider, or at one of its models, and how they wait for that."""

    max_concurrent: int = 0  # calls at once; 0: as many as come
    max_waiting: int = 1_000  # calls in a line
    longest_wait_s: float = 10.0  # of each; 0: none waits

    def wrong(self) -> str:
        """Return what is wrong with the numbers, or an empty text."""
        if not 0 <= self.max_concurrent <= MAX_LIMIT:
            return f"max_concurrent must be 0 (as many as come) to {MAX_LIMIT}"
        if not 0 <= self.max_waiting <= 100_000 or not 0 <= self.longest_wait_s <= 600:
            return "max_waiting must be 0 to 100000, longest_wait_s 0 (none waits) to 600"
        return ""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """What says, besides a host's base URL, where its models are. Empty: not said."""

    project: str = ""
    location: str = ""
    api_version: str = ""


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """One provider as configured: where it is, how it is spoken to, what it deviates in."""

    name: str
    kind: str = "openai"
    base_url: str
    api_key: str = ""
    credential: str = ""  # which of its keys that is; empty: its only one
    spares: tuple[Host, ...] = ()  # the same provider with its other keys
    local: bool = False  # on this machine or the LAN: costs an explicit 0
    extras: Literal["pass", "refuse"] = "pass"  # unknown members of a request
    stream_usage: bool = True  # understands stream_options.include_usage
    hangup: Literal["cancel", "drain"] = "cancel"  # `drain`: it bills even after a hang-up
    organization: str = ""
    project: str = ""
    headers: Mapping[str, str] = {}
    proxy: str = ""
    drops: tuple[str, ...] = ()  # members that it refuses, dropped and named in a header
    renames: Mapping[str, str] = {}  # members that it knows under another name
    deviates: bool = True  # its answers need the edits of `providers.compat`
    models: tuple[str, ...] = ()  # name patterns of the models that it serves
    limited: bool = False  # of those that the catalogue knows, too, it serves only these
    several: bool = True  # it gives as many answers as `n` says
    schema: Schemas = "enforced"
    schema_models: tuple[str, ...] = ()  # patterns of the models that keep to a schema all the same
    completion_tokens: int = 0  # what it makes of a completion without a limit; 0: not known
    videos: str = ""  # the wire of its videos, where that is not its kind's
    batch: BatchRunner = "own"  # who runs its batches
    batches: str = ""  # the wire of that, where it is not its kind's
    handover: Handover = Handover()  # how they go there,
    bucket: Bucket | None = None  # and through which bucket
    batch_hosts: tuple[str, ...] = ()  # at which answers may lie
    example: str = ""  # one of them, to show to people
    api_version: str = ""  # that its requests name
    deployments: Mapping[str, str] | None = None  # the model of each; None: its models are no deployments
    tokens: TokenSource | None = None  # where there is no key but a token that expires,
    bearer: Bearer | None = None  # and where it is kept
    signing: Signing | None = None  # where there is neither, but keys that sign every request
    location: str = ""  # the region that they sign for
    region: str = ""  # where it is, as its owner says
    data: tuple[str, ...] = ()  # the policies for data that it keeps to, as its owner says
    room: RoomTerms = RoomTerms()

    def deployed(self, name: str) -> tuple[str, str]:
        """Return what is asked for by a name, and the model that it is: of deployments these may differ."""
        known = self.deployments or {}
        if name in known:
            return name, known[name]
        return next((own for own, model in known.items() if model == name), name), name

    @property
    def keyless(self) -> bool:
        """Say whether it is asked without any credential although it is not our own machine's."""
        return not (self.api_key or self.local or self.tokens or self.signing)


class Deadlines(msgspec.Struct, frozen=True, kw_only=True):
    """How long we wait for an upstream, in seconds."""

    connect_s: float = 5.0  # to a connection, with its TLS
    first_byte_s: float = 120.0  # from the request to the first byte of the answer
    between_frames_s: float = 60.0  # from one piece of an answer to the next
    total_s: float = 590.0  # from the request to the end of the answer


class KeyRules(msgspec.Struct, frozen=True):
    """What the configuration says of the calls of a key."""

    deadlines: Deadlines | None = None  # instead of those of models
    parameters: Literal["", "strict", "lenient"] = ""  # instead of what models say; empty: that

    def applied(self, target: Target) -> Target:
        """Return a target as it is for such a call."""
        return msgspec.structs.replace(
            target,
            deadlines=self.deadlines or target.deadlines,
            parameters=self.parameters or target.parameters,
        )


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an upstream model. Zero or empty: not known."""

    name: str
    context_window: int = 0
    max_output: int = 0
    tokenizer: str = ""  # "o200k_base", "cl100k_base"; empty: none shipped
    exact: bool = False  # the tokenizer above counts exactly
    bytes_factor_ppm: int = 1_000_000  # upper bound of tokens per UTF-8 byte, in millionths
    wants_max_completion_tokens: bool = False  # refuses `max_tokens`
    dimensions: int = 0  # embeddings only
    image_tokens: int = 0  # the most that one image can count
    operations: tuple[str, ...] = ("chat",)


Holding = Literal["images", "audio", "files", "tools", "schema"]  # what a call may have besides text


class When(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which calls a target or a model is for: those of which everything that stands here is true."""

    keys: tuple[str, ...] = ()  # names of keys, or patterns: `*` stands for any characters
    projects: tuple[str, ...] = ()  # ids: `proj_...`
    tiers: tuple[str, ...] = ()  # of the account
    metadata: Mapping[str, str] = {}  # of the request: a pattern of the value, by its name
    min_input_tokens: int = 0  # by our estimate: a quarter of the bytes, 1000 for an image, 5000 for a file
    max_input_tokens: int = 0  # by the same; 0: no limit
    has: tuple[Holding, ...] = ()  # each of these: `images`, `audio`, `files`, `tools`, `schema`
    lacks: tuple[Holding, ...] = ()  # none of these
    stream: bool | None = None  # whether the answer is streamed
    able: bool = False  # the model's card says that it can do with what the call has; without a card it can

    def wrong(self) -> str:
        """Return what is wrong with the conditions, or an empty text."""
        least, most = self.min_input_tokens, self.max_input_tokens
        if least < 0 or most < 0:
            return "min_input_tokens and max_input_tokens begin at 0"
        if most and least > most:
            return f"min_input_tokens {least} is above max_input_tokens {most}, so no call fits"
        if both := set(self.has) & set(self.lacks):
            return f"has and lacks both name {', '.join(sorted(both))}, so no call fits"
        return ""


class Demand(msgspec.Struct, frozen=True, gc=False):
    """Where a call may be served, and under which policy for its data."""

    regions: tuple[str, ...] = ()  # in one of these; empty: anywhere
    data: tuple[str, ...] = ()  # under all of these
    by: str = ""  # who demands it, for people


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A provider and one of its models, with everything resolved that a call needs."""

    host: Host
    model: Model
    prices: Prices | None  # None: unpriced
    costs: Prices | None = None  # what the provider takes from us
    deadlines: Deadlines = Deadlines()
    simulated: bool = False  # answered in this process
    by_unit: bool = False  # it has prices of other units than tokens
    headers: tuple[tuple[str, str], ...] = ()  # the constant headers of its requests
    parameters: Literal["", "strict", "lenient"] = ""  # what becomes of those that it cannot honour
    weight: int = 0  # its share of the calls among the targets of its group; 0: by its place
    group: int = 0  # of a model's targets: one of each group is drawn by weight, and groups keep their order
    trial: str = ""  # of a canary, on either side of which it stands; empty: of none
    canary: bool = False  # it is that canary
    steered: bool = False  # which of a model's targets are asked, and in which order, depends on the call
    choice: Literal["", "least_cost", "least_latency"] = ""  # who is first of its group; empty: by weight
    whens: tuple[When, ...] = ()  # all of them must be true of a call that it is for
    region: str = ""  # where it is
    data: tuple[str, ...] = ()  # the policies for data that it keeps to
    room: RoomTerms = RoomTerms()
    batch: BatchRunner = "own"  # who runs its batches
    base_path: str = ""  # the path part of the host's base URL
    shutdown: str = ""  # the day on which the model's maker shuts it down
    notice: Pairs = ()  # response headers that tell of that
    # What a token of either side and a call cost at the most; None: unpriced, or it depends on more.
    flat: tuple[PicoUSD, PicoUSD, PicoUSD] | None = None
    bounded: bool = False  # it has prices, and its model a limit of output

    def __post_init__(self) -> None:
        """Work out what each call would."""
        prices, flat = self.prices, None
        if prices is not None and prices.long is None and not prices.more:
            flat = prices.dearest()
        msgspec.structs.force_setattr(self, "flat", flat)
        msgspec.structs.force_setattr(self, "bounded", prices is not None and self.model.max_output > 0)


class Note(msgspec.Struct, frozen=True, gc=False):
    """Something we changed, said in a response header."""

    name: str
    value: str


class Wrong(msgspec.Struct, frozen=True, gc=False):
    """An answer that is not of the shape that was asked for, and why not."""

    text: str
    problems: tuple[str, ...]


class Shape:
    """The JSON that a call's answer shall be, and what became of it so far."""

    __slots__ = ("spare_input", "wanted", "wrong")

    def __init__(self, wanted: Mapping[str, Any]) -> None:
        self.wanted = wanted  # `response_format`, decoded: of type `json_schema` or `json_object`
        self.spare_input = 0  # tokens that asking in words, and a second time, may add to the input
        self.wrong: Wrong | None = None  # the first answer, where it did not have the shape


class Media(msgspec.Struct, frozen=True, gc=False):
    """What a request holds besides text."""

    images: int = 0
    audio: int = 0  # base64 characters
    hidden: int = 0  # parts and members that stand for input of unknown length
    files: int = 0  # of those, how many are files
    stored: bool = False  # some are named that are ours: `files.inlining` puts them there


@set_at_once
class Call(CallState):
    """One request that we serve, from the edge to its settlement. Owned by its task.

    `members` are the raw JSON values of the body's top level, as checked; what is sent upstream is
    rebuilt from them. `admission.bounds` makes upper bounds in tokens of what is noted here.
    """

    id: bytes
    operation: Operation
    received_ns: MonotonicNs
    at: WallMicros = 0  # when the id was made; 0: not known
    request_id: str = ""  # made of the id
    members: dict[str, msgspec.Raw] = msgspec.field(default_factory=dict)
    model: str = ""
    stream: bool = False
    flows: bool = False  # an answer that is no stream of events passes as it comes
    broken: bool = False  # its answer has told of an error
    keyed: bool = False  # its answer is kept under an Idempotency-Key
    include_usage: bool = False
    max_output: int | None = None  # what the caller allows, per choice; None: not said
    input_bytes: int = 0  # of text that may be read as input, media apart
    n: int = 1
    inputs: int = 1  # prompts, or texts to embed
    shape: Shape | None = None  # the JSON that the answer shall be
    shaped: int = 0  # how many of the bytes are tools and schemas, which hosts render in their way
    predicted: int = 0  # bytes of a predicted output: what of it is rejected is billed as output
    media: Media | None = None
    bring: Callable[[Call], Awaitable[None]] | None = None  # puts in the files that it names
    answer_type: bytes | None = None  # of one neither JSON nor events; b"": not known
    files: tuple[Part, ...] | None = None  # of a request that came as a form
    units: Units = ()  # the most that it can use in units other than tokens
    # Of what some hosts bill by the piece and others by tokens: both bounds, whichever has prices.
    measures: tuple[Units, Units] | None = None
    structured: bool = False  # messages have parts, names or tools, which strict hosts look into
    counted: dict[tuple[str, str], int] | None = None  # input bounds by (host, model)
    shrunk_to: int = 0  # the output limit per choice that we send; 0: none of ours
    unknown: tuple[str, ...] = ()  # members that OpenAI does not have
    special: bool = False  # there are such, or others that strict hosts look into; or it is `structured`
    tier: str = ""  # of service, where it has a price of its own
    sim: str = ""  # directives for the simulator
    principal: Principal | None = None
    demand: Demand | None = None  # what its head demands of targets
    deadline: Deadline | None = None  # that its caller sets
    parent: bytes = b""  # the id of the call that this one is a part of
    face: Face | None = None  # how it was asked, where that is not OpenAI's own form
    notes: list[Note] = msgspec.field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the id by which people know it."""
        self.request_id = "req_" + self.id.hex()
