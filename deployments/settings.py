"""The one settings tree: frozen, every field described with its unit, unknown keys refused.

Read once by whoever starts the application (`load_settings`); each room receives its own branch. Only this module
looks at the environment: `RAYDESK_<BRANCH>__<FIELD>` overrides the file.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

Placement = Literal["ingress", "deployment"]
Language = Literal["en", "zh"]
TierName = Literal["small", "large", "cloud"]
PLACEMENT_HELP = "'ingress': inside the ingress process (no hop); 'deployment': a deployment of its own, scaled apart."


def _as_browsers_write(origin: str) -> str:
    """As it stands in the header Origin. Raises `ValueError` for anything else than scheme, host and port."""
    parts = urlsplit(origin)
    default_port = {"http": 80, "https": 443}.get(parts.scheme)
    if default_port is None or not parts.hostname or origin.lower() != f"{parts.scheme}://{parts.netloc.lower()}":
        raise ValueError("an origin is scheme, host and port alone: https://shop.example or http://localhost:3000")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if not re.fullmatch(r"[a-z0-9.:\[\]-]+", host) or "@" in parts.netloc:
        raise ValueError(
            "an origin names one host, without wildcard; international names as browsers send them (xn--…)"
        )
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port not in (None, default_port) else "")


Origin = Annotated[str, AfterValidator(_as_browsers_write)]


class Branch(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ReplicaSettings(Branch):
    """How a deployment runs: how many, on what, and how much one of them takes."""

    min_replicas: int = Field(1, ge=1, description="Replicas at rest.")
    max_replicas: int | None = Field(None, ge=1, description="Replicas under load; none: always min_replicas.")
    target_ongoing_requests: float = Field(
        8, gt=0, description="Requests at work in a replica, on average, above which another is started."
    )
    upscale_delay_s: float = Field(10, ge=0, description="How long it must be too many before another starts, seconds.")
    downscale_delay_s: float = Field(600, ge=0, description="How long too few before one ends, seconds.")
    num_cpus: float = Field(0.1, ge=0, description="CPU cores reserved for each replica (a share for scheduling).")
    num_gpus: float = Field(0, ge=0, description="GPUs reserved for each replica.")
    surge: bool = Field(
        False,
        description="Whether a change of settings starts a new replica before it ends an old one: needs room for one "
        "more, and nothing that only one may hold.",
    )
    max_ongoing_requests: int = Field(256, ge=1, description="Requests that one replica works on at once.")
    max_queued_requests: int = Field(512, ge=1, description="Requests that may wait at a caller before it is told 503.")
    health_check_period_s: float = Field(
        5, gt=0, description="Pause between looks at a replica, seconds: a dead one is noticed within two."
    )
    health_check_timeout_s: float = Field(15, gt=0, description="A slower answer is a failed look, seconds.")
    graceful_shutdown_timeout_s: float = Field(
        10, ge=0, description="How long a replica that is to go may finish what it works on, seconds."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.max_replicas is not None and self.max_replicas < self.min_replicas:
            raise ValueError("max_replicas must be at least min_replicas")
        return self


class TierReplicaSettings(ReplicaSettings):
    """The same for a language model, whose requests take seconds and whose replicas take a minute to start."""

    target_ongoing_requests: float = Field(
        24, gt=0, description="Generations at work in a replica, on average, above which another is started."
    )
    target_tokens_in_flight: int | None = Field(
        None,
        ge=1,
        description="Tokens that a replica has still to write, on average, above which another is started: each answer "
        "counts as the longest that it may become; none: by target_ongoing_requests.",
    )
    num_cpus: float = Field(1.0, ge=0, description="CPU cores of one replica's placement group.")
    max_ongoing_requests: int = Field(64, ge=1, description="Generations at once in one replica.")
    health_check_timeout_s: float = Field(10, gt=0, description="A slower answer is a failed look, seconds.")
    graceful_shutdown_timeout_s: float = Field(
        60, ge=0, description="How long a replica that is to go may finish its streams, seconds."
    )


class SocketSettings(Branch):
    """One WebSocket."""

    max_message_bytes: int = Field(
        65_536, ge=1024, le=16_777_216, description="Largest message, bytes; a larger one closes the socket (1009)."
    )
    messages_per_s: float = Field(
        20.0, gt=0, description="Messages a second, on average; more close the socket (1008). Twice as many at once."
    )
    max_turns: int = Field(8, ge=1, description="Turns at work at once.")
    ping_s: float = Field(
        10.0,
        gt=0,
        description="Pause between pings, seconds; a peer that is silent for 2.2 times as long is given up.",
    )


class HttpSettings(Branch):
    """The door."""

    bind_host: str = Field(
        "127.0.0.1", description="Address the service is offered on; anything but loopback needs API keys."
    )
    allowed_origins: tuple[Origin, ...] = Field(
        (),
        description="Other origins whose pages may use this service, exactly: https://shop.example.",
    )
    max_body_bytes: int = Field(262_144, ge=1024, description="Largest request body, bytes.")
    max_headers: int = Field(100, ge=10, description="Most headers of one request.")
    max_header_bytes: int = Field(
        16_384, ge=1024, description="All headers of one request together, bytes; HAProxy takes 16 KiB."
    )
    max_messages: int = Field(64, ge=1, description="Most messages in one request.")
    max_message_chars: int = Field(8_000, ge=1, description="Longest message, characters.")
    max_concurrent_turns: int = Field(512, ge=1, description="Turns at work in one ingress replica; more are told 503.")
    target_lag_s: float = Field(
        0.12,
        gt=0,
        description="How late a replica may hear a question, by its event loop or since its machine's door took it, "
        "seconds; while that is later, no more are let in than are answered.",
    )
    target_wait_s: float = Field(
        0.8,
        gt=0,
        description="How long turns may wait for parts of the desk, language models apart, seconds: more of them than "
        "get done in that time are refused.",
    )
    heartbeat_s: float = Field(5.0, gt=0, description="Pause between keep-alive comments on an idle stream, seconds.")
    send_timeout_s: float = Field(10.0, gt=0, description="A reader that takes no bytes for this long is cut, seconds.")
    socket: SocketSettings = Field(SocketSettings(), description="WebSockets.")
    replicas: ReplicaSettings = Field(
        ReplicaSettings(num_cpus=0.5, surge=True, max_ongoing_requests=4096),
        description="Replicas of the ingress. Its max_ongoing_requests counts WebSockets, too; what is over it waits "
        "unseen, so that it should be more than there will be.",
    )


class ApiKey(Branch):
    """One credential. The key itself is never stored: `raydesk keys create` prints it once."""

    id: str = Field(min_length=1, description="Name of the key, shown in logs.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the key, hexadecimal.")
    tenant: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="The tenant that this key speaks for.")
    audiences: tuple[str, ...] = Field(("public",), description="Audiences whose knowledge this key may see.")
    requests_per_minute: int | None = Field(
        None,
        ge=1,
        description="Questions a minute, by each ingress replica, a sixth of them at once; more are told 429. "
        "None: no limit.",
    )
    origins: tuple[Origin, ...] = Field(
        (),
        description="Web pages that this key stands in, for everybody to see: from them it may ask and rate, and do "
        "nothing else. None: a secret key, which may be in no page.",
    )

    @model_validator(mode="after")
    def _visible_key_sees_what_is_public(self) -> Self:
        if self.origins and self.audiences != ("public",):
            raise ValueError("a key with origins can be read by everybody: its audiences must be 'public' alone")
        return self


class AuthSettings(Branch):
    """Who may ask."""

    loopback_tenant: str = Field("demo", description="Tenant of requests without a key on a loopback address.")
    keys: tuple[ApiKey, ...] = Field((), description="Accepted API keys, hashed.")
    keys_file: str | None = Field(
        None, description="More of them, in a file that is read again when it changes: to revoke a key at once."
    )
    keys_interval_s: float = Field(2.0, gt=0, le=5, description="Pause between looks at that file, seconds.")
    max_wrong_keys_per_min: int = Field(
        60, ge=1, description="Wrong keys a minute, in one ingress replica, after which they are told to wait."
    )


class KnowledgeSettings(Branch):
    """Where published knowledge lies."""

    root: str = Field(
        ".raydesk/knowledge",
        description="Folder of all tenants' collections, or s3://bucket/prefix, gs://bucket/prefix.",
    )
    copies: str = Field(
        ".raydesk/knowledge-copies", description="Folder for what is fetched when the root is in object storage."
    )
    default_collection: str = Field("help", description="Collection of requests that name none.")
    parts: int = Field(
        1,
        ge=1,
        description="Parts that a collection is written in; placed as a deployment, each has a retriever of its own.",
    )
    index_device: Literal["cpu", "gpu"] = Field(
        "cpu",
        description="Where vectors are searched; 'gpu' needs faiss-gpu in place of faiss-cpu, which fills the same "
        "folder, and a share of one for the retriever (num_gpus).",
    )
    poll_interval_s: float = Field(0.5, gt=0, description="Pause between looks for a new published version, seconds.")


class EncoderSettings(Branch):
    """The BERT encoder that intents, the semantic cache and retrieval share."""

    model: str = Field(".raydesk/models/multilingual-e5-small", description="Hugging Face id or local folder.")
    query_prefix: str = Field("query: ", description="Put before questions, as the encoder was trained.")
    passage_prefix: str = Field("passage: ", description="Put before passages, as the encoder was trained.")
    pooling: Literal["mean", "cls"] = Field("mean", description="How token vectors become one vector.")
    max_tokens: int = Field(256, ge=8, le=8192, description="Longer texts are cut, tokens.")
    precision: Literal["fp32", "bf16", "auto"] = Field(
        "auto",
        description="bf16 is as good and faster on GPUs and on CPUs with AVX512-BF16 or AMX; elsewhere it is emulated. "
        "'auto' takes it where it is faster; what was stored with fp32 stays good.",
    )
    threads: int = Field(1, ge=1, description="CPU threads of one encoder pass.")
    max_batch: int = Field(16, ge=1, description="Questions encoded together at most.")
    batch_wait_ms: float = Field(
        0.0, ge=0, description="How long a batch waits for more questions while the encoder is idle, ms."
    )


class IntentSettings(Branch):
    """The intent classifier and the rules that act on it."""

    head: str = Field(".raydesk/models/intent-head", description="Folder of the trained head.")
    rules: str = Field("cluster/sample_company/rules.yaml", description="File of preset flows.")
    collections: tuple[str, ...] = Field(
        ("help",), description="Collections whose customers the intents and rules are for."
    )
    confidence_threshold: float = Field(
        0.9,
        ge=0,
        le=1,
        description="Calibrated probability from which a rule answers; where training chose a higher one for the "
        "intent, that one.",
    )
    margin_threshold: float = Field(0.3, ge=0, le=1, description="Least lead over the second-best intent for a rule.")
    poll_interval_s: float = Field(1.0, gt=0, description="Pause between looks for a newly trained head, seconds.")
    placement: Placement = Field("ingress", description=PLACEMENT_HELP)
    replicas: ReplicaSettings = Field(
        ReplicaSettings(num_cpus=0.5, surge=True), description="Replicas when a deployment."
    )


class RerankerSettings(Branch):
    """An optional cross-encoder that reads the best chunks together with the question, and puts them in a new order."""

    model: str | None = Field(None, description="Hugging Face id or local folder; none: the order of the searches.")
    candidates: int = Field(20, ge=2, le=100, description="Chunks that it reads.")
    timeout_s: float = Field(0.3, gt=0, description="Where it would take longer, the first order stays, seconds.")
    max_tokens: int = Field(512, ge=32, le=8192, description="Question and chunk together; longer chunks are cut.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="As of the encoder.")
    threads: int = Field(1, ge=1, description="CPU threads of one pass.")


class RetrieverSettings(Branch):
    """Search and the thresholds that read it."""

    top_k: int = Field(5, ge=1, le=50, description="Chunks retrieved for one question.")
    reranker: RerankerSettings = RerankerSettings()
    faq_confidence: float = Field(
        0.9, ge=0, le=1, description="Calibrated confidence (0-1) from which a curated answer is given word for word."
    )
    clarify_confidence: float = Field(
        0.6,
        ge=0,
        le=1,
        description="Calibrated confidence (0-1) that it is one of the best two or three curated questions, from which "
        "the customer is asked which.",
    )
    evidence_threshold: dict[Language, float] = Field(
        {"en": 0.84, "zh": 0.88},
        description="Similarity (cosine) from which a passage is evidence, by the question's language: an encoder's "
        "scale is not the same in all of them.",
    )
    foreign_evidence_threshold: dict[Language, float] = Field(
        {"en": 0.79, "zh": 0.81},
        description="The same for passages in another language than the question, which is found only where there are "
        "none in its own: between languages everything is less similar.",
    )
    evidence_coverage: float = Field(
        0.6, ge=0, le=1, description="Share of the question's words in a passage from which it is evidence, too."
    )
    out_of_scope_threshold: float = Field(
        0.7, ge=0, le=1, description="Calibrated probability of 'out_of_scope' above which nothing is evidence."
    )
    placement: Placement = Field("ingress", description=PLACEMENT_HELP)
    replicas: ReplicaSettings = Field(
        ReplicaSettings(num_cpus=0.5, surge=True), description="Replicas when a deployment."
    )


class CacheSettings(Branch):
    """The semantic cache."""

    enabled: bool = Field(True, description="Whether answers are cached at all.")
    url: str = Field("redis://127.0.0.1:6379/0", description="Redis or Valkey: redis://, rediss:// or unix://path.")
    ttl_s: int = Field(86_400, ge=1, description="Life of an entry, seconds.")
    topic_ttl_s: dict[str, Annotated[int, Field(ge=1)]] = Field(
        {}, description="The same by intent, where another one is wanted, seconds: {opening_hours: 3600}."
    )
    similarity_threshold: float = Field(
        0.90, ge=0, le=1, description="Cosine from which a stored question is a candidate; a verifier decides."
    )
    max_wrong_hit_rate: float = Field(
        0.01, gt=0, le=1, description="Share of wrong answers among verified hits that is accepted (0.01: one in 100)."
    )
    must_agree: bool = Field(
        True, description="Whether a paraphrase is a hit only where the search for it does not find another answer."
    )
    shadow_share: float = Field(
        0.2, ge=0, le=1, description="Share of hits without a search that are checked by one afterwards, 0-1."
    )
    min_askers: int = Field(
        2,
        ge=1,
        description="Conversations that must have asked before a written answer is stored; curated ones need none.",
    )
    block_ttl_s: int = Field(
        2_592_000, ge=1, description="How long no answer is stored for a question that was answered badly, seconds."
    )
    max_entries: int = Field(50_000, ge=1, description="Answers stored; those of the least value go first.")
    max_bytes: int = Field(200_000_000, ge=10_000, description="The same, bytes of all answers and vectors together.")
    max_answer_bytes: int = Field(65_536, ge=1024, description="A larger answer is not stored, bytes.")
    max_local_entries: int = Field(10_000, ge=0, description="Exact answers held in the process, entries.")
    lease_s: float = Field(
        10.0,
        gt=0,
        description="How long one replica may be alone in making an answer that several are asked for, seconds.",
    )
    lease_wait_s: float = Field(
        3.0, ge=0, description="How long the others wait for it before they make it themselves, seconds."
    )
    price_per_million_tokens: float = Field(
        0.5,
        ge=0,
        description="What a million tokens of the model costs, for the report of what was saved, in your money.",
    )
    timeout_s: float = Field(0.2, gt=0, description="A slower store is passed over, seconds.")
    placement: Placement = Field("ingress", description=PLACEMENT_HELP)
    replicas: ReplicaSettings = Field(ReplicaSettings(surge=True), description="Replicas when a deployment.")


class SessionSettings(Branch):
    """What is remembered of conversations between their turns."""

    enabled: bool = Field(True, description="Whether flows and histories outlive a turn.")
    url: str | None = Field(
        None, description="Redis or Valkey: redis://, rediss:// or unix://path; none: the cache's store."
    )
    ttl_s: int = Field(86_400, ge=60, description="Life of a conversation after its last turn, seconds.")
    max_turns: int = Field(12, ge=1, description="Turns remembered of a conversation; the oldest go first.")
    max_bytes: int = Field(32_768, ge=2048, description="Largest session, bytes; the oldest turns go first.")
    wait_s: float = Field(
        20.0, gt=0, description="How long a message waits for the one before it in its conversation, seconds."
    )
    lease_s: float = Field(
        10.0,
        ge=1,
        description="After how long without a sign of life a turn no longer holds its conversation, seconds.",
    )
    timeout_s: float = Field(0.5, gt=0, description="A slower store is passed over, seconds.")


class TurnSettings(Branch):
    """Turns whose customers may come back for them, at any ingress replica."""

    url: str | None = Field(
        None, description="Redis or Valkey: redis://, rediss:// or unix://path; none: the cache's store."
    )
    grace_s: float = Field(
        10.0,
        ge=0,
        description="How long a turn goes on after its customer has left and may return, seconds; 0: not at all.",
    )
    ttl_s: int = Field(300, ge=60, description="How long a turn's events are kept after its last one, seconds.")
    idempotency_ttl_s: int = Field(
        3600, ge=60, description="How long a request with an Idempotency-Key is known, and its answer kept, seconds."
    )
    max_bytes: int = Field(262_144, ge=16_384, description="Events kept of one turn, bytes; the oldest go first.")
    whole_bytes: int = Field(
        33_554_432,
        ge=0,
        description="Kept within `ttl_s`, by each replica, of answers that went out in one piece, such as cached ones, "
        "bytes; beyond that they are not kept, and who missed one asks again.",
    )
    flush_interval_s: float = Field(
        0.05, gt=0, description="Longest wait of an event before it is written to the store, seconds."
    )
    poll_interval_s: float = Field(
        0.05, gt=0, description="Pause between looks at a turn that another replica runs, seconds."
    )
    lease_s: float = Field(
        5.0,
        ge=1,
        description="After how long without a sign of life a replica's turns are taken for lost, seconds.",
    )
    timeout_s: float = Field(0.5, gt=0, description="A slower store is passed over, seconds.")


class ScriptSettings(Branch):
    """What stands in for a language model where the way to it is measured or tested: it quotes the sources."""

    tokens: int = Field(60, ge=1, description="Length of every answer, tokens (words, Chinese characters).")
    first_token_ms: float = Field(0, ge=0, description="Wait before the first token, ms.")
    tokens_per_s: float = Field(0, ge=0, description="Tokens of one answer in a second; 0: all as fast as possible.")


class OpenAISettings(Branch):
    """A language model behind an OpenAI-compatible address: a cloud's, or a vLLM of one's own somewhere else."""

    base_url: str = Field(
        pattern=r"^https?://[^\s@]+$", description="Its address, with the version: https://api.example.com/v1"
    )
    model: str = Field("", description="The model's name there; empty: the tier's model_id.")
    api_key_env: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Environment variable that holds the API key, which stands in no file; none: no key is sent.",
    )
    tenants: tuple[str, ...] = Field(
        (), description="Tenants whose questions may go there, '*' for all; nobody else's ever do."
    )
    redacted: bool = Field(
        True,
        description="Whether personal data is replaced before anything leaves: e-mail addresses, telephone, card, "
        "identity and order numbers. False only for an address that is your own.",
    )
    connect_timeout_s: float = Field(5.0, gt=0, description="Longest wait for a connection, seconds.")
    max_connections: int = Field(128, ge=1, description="Connections of one ingress replica, which is streams at once.")
    warm_connections: int = Field(2, ge=1, le=64, description="Connections that are opened before they are needed.")
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="What it calls the longest answer; OpenAI's newer models take the second only."
    )
    continues: bool = Field(
        False,
        description="Whether it goes on from the beginning of an answer, as vLLM does (continue_final_message): then "
        "it takes over where another engine died in the middle.",
    )
    takes_tools: bool = Field(
        False, description="Whether it takes functions that callers bring along (`tools`), and asks for their calls."
    )
    extra_body: dict[str, Any] = Field(
        default_factory=dict, description="Sent along with every request: what this provider alone understands."
    )

    def may_use(self, tenant: str) -> bool:
        return tenant in self.tenants or "*" in self.tenants

    def api_key(self) -> str | None:
        """From the environment, each time: it is kept nowhere. Raises `ValueError` where the variable is not set."""
        if self.api_key_env is None:
            return None
        try:
            return os.environ[self.api_key_env]
        except KeyError:
            raise ValueError(f"the environment variable {self.api_key_env} is not set (openai.api_key_env)") from None


class BreakerSettings(Branch):
    """When a tier is left alone, and how it comes back."""

    failures_in_a_row: int = Field(5, ge=1, description="Failures one after the other that open it.")
    failure_share: float = Field(0.5, gt=0, le=1, description="Share of failed calls that opens it, 0-1.")
    min_calls: int = Field(10, ge=1, description="Calls in the window from which that share counts.")
    window_s: float = Field(30, gt=0, description="The window, seconds.")
    open_s: float = Field(15, gt=0, description="How long it is left alone before a probe, seconds.")
    good_probes: int = Field(2, ge=1, description="Probes that must succeed, one after the other, to close it.")


class RetrySettings(Branch):
    """How often a generation may be begun again whose replica died before the first word."""

    max_share: float = Field(0.1, ge=0, le=1, description="Most retries, as a share of the last requests, 0-1.")
    window: int = Field(100, ge=1, description="Those last requests.")
    floor: int = Field(3, ge=0, description="Retries among them that are always allowed.")


class TierSettings(Branch):
    """One language model behind ray.serve.llm, or behind an OpenAI-compatible address."""

    name: TierName = Field(description="The tier's name: also the path that an answer of it is marked with.")
    model_id: str = Field(description="Name under which the OpenAI-compatible API offers it.")
    model_source: str = Field("", description="Hugging Face id or local folder of the weights.")
    openai: OpenAISettings | None = Field(None, description="Where it answers, if not in replicas of our own.")
    script: ScriptSettings | None = Field(None, description="What it says, if it is to be no model at all.")
    languages: tuple[Language, ...] = Field(
        ("en", "zh"), description="Languages that it writes well enough for customers."
    )
    context_tokens: int = Field(2048, ge=256, description="Longest prompt and answer together, tokens.")
    max_output_tokens: int = Field(160, ge=1, description="Longest answer, tokens.")
    evidence_tokens: int = Field(
        700, ge=100, description="Most evidence in a prompt, tokens (estimated: 3.5 letters, half a Chinese character)."
    )
    history_turns: int = Field(
        0,
        ge=0,
        le=20,
        description="Turns before this one in the prompt of a question that leans on them; 0: only the question, "
        "completed with what it leans on, which is all that a very small model can follow.",
    )
    evidence_chunks: int = Field(
        3, ge=1, description="Most chunks of evidence in a prompt; a very small model follows one best."
    )
    supported_only: bool = Field(
        False,
        description="Whether a sentence is sent only once a source supports it. A very small model invents, and needs "
        "that; of others words are sent as they come, and the end of the answer says whether all had a source.",
    )
    accept_timeout_s: float = Field(
        5.0, gt=0, description="Longest wait until a replica has taken a request: where none is alive, seconds."
    )
    first_token_timeout_s: float = Field(20.0, gt=0, description="Longest wait for the first token, seconds.")
    inter_token_timeout_s: float = Field(10.0, gt=0, description="Longest pause within an answer, seconds.")
    chunk_interval_ms: float = Field(
        30.0,
        ge=0,
        le=1000,
        description="Least pause between two pieces of a stream, ms: the first goes at once, what comes faster is put "
        "together.",
    )
    chunks_per_s: float = Field(
        1000,
        gt=0,
        description="Pieces of all streams of a replica together, in a second: of many at once each has fewer and "
        "longer ones. An ingress replica carries some 3,000 on a slow core.",
    )
    engine_kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="Engine arguments of vLLM. Among them enable_prefix_caching, and speculative_config: "
        "{method: ngram, num_speculative_tokens: 4, prompt_lookup_max: 4} guesses tokens out of the prompt, which "
        "answers quote.",
    )
    tool_call_parser: str | None = Field(
        None,
        description="vLLM's parser of this model's calls of functions, such as hermes, llama3_json or mistral: its "
        "documentation has the list; none: requests with `tools` do not go to this tier.",
    )
    routes_by_prefix: bool = Field(
        False,
        description="Whether, while the replicas are about equally busy, a prompt goes to the one that has seen its "
        "beginning: worth it from two replicas on, where prompts share more than the instructions (long policies, "
        "histories). Each ingress replica then loads Serve's router for them, and with it vLLM: 0.6 GB.",
    )
    accelerator_type: str | None = Field(None, description="Ray accelerator type, e.g. H100; none on CPU.")
    env: dict[str, str] = Field(default_factory=dict, description="Environment of the engine's processes.")
    breaker: BreakerSettings = BreakerSettings()
    replicas: TierReplicaSettings = Field(TierReplicaSettings(), description="Replicas of the engine.")

    @model_validator(mode="after")
    def _is_somewhere(self) -> Self:
        if self.name == "cloud" and self.openai is None:
            raise ValueError("the cloud tier needs 'openai': where it answers, and for whom")
        if self.openai is None and self.script is None and not self.model_source:
            raise ValueError(f"the {self.name} tier needs 'model_source', or 'openai' where it answers elsewhere")
        return self

    @property
    def takes_tools(self) -> bool:
        """Whether it can be offered functions of the caller's own."""
        elsewhere = self.openai is not None and self.openai.takes_tools
        return elsewhere or self.script is not None or self.tool_call_parser is not None

    def may_use(self, tenant: str) -> bool:
        """Whether questions of this tenant may be answered by it."""
        return self.openai is None or self.openai.may_use(tenant)


class TenantSettings(Branch):
    """What holds for one tenant's questions."""

    policy: str = Field(
        "", max_length=4000, description="What every model is told besides: tone, names, what not to speak of."
    )
    max_prompt_tokens: int | None = Field(
        None,
        ge=300,
        description="Longest prompt, tokens (estimated); evidence gives way, a longer question is refused.",
    )
    max_output_tokens: int | None = Field(None, ge=1, description="Longest answer, tokens, where the tier allows more.")


class AnswerSettings(Branch):
    """What is sent of what a model writes."""

    link_hosts: tuple[Annotated[str, Field(pattern=r"^[a-z0-9-]+(\.[a-z0-9-]+)+$")], ...] = Field(
        (),
        description="Hosts, with all below them, that a written or quoted answer may link to, besides those that its "
        "evidence came from; links and images of all others are taken out.",
    )


class TurnLogSettings(Branch):
    """Where turns are written."""

    dsn: str = Field(
        "chdb:///.raydesk/turnlog",
        description="chdb:///folder (embedded) or clickhouse://user:password@host:port/database.",
    )
    flush_interval_s: float = Field(
        1.0, gt=0, description="Longest wait of a finished turn before it is sent to the log, seconds."
    )
    max_batch: int = Field(
        5000, ge=1, description="Turns per insert, at most: an insert of many costs little more than one of few."
    )
    queue_size: int = Field(
        10_000,
        ge=1,
        description="Turns that wait while the log is away; then the oldest are dropped and counted.",
    )
    replicas: ReplicaSettings = Field(ReplicaSettings(), description="The embedded engine takes exactly one replica.")


class RewritingSettings(Branch):
    """Follow-ups of which the rules are not sure what they leave out."""

    tier: TierName | None = Field(
        None, description="The tier that puts them as questions which stand alone; none: the rules' version stands."
    )
    timeout_s: float = Field(1.5, gt=0, description="Where it would take longer, the rules' version stands, seconds.")


class RoutingSettings(Branch):
    """Which of several language models writes. With one there is nothing to choose."""

    model: str | None = Field(
        None, description="File of `raydesk routing fit`, taken over when it changes; none: weights set by hand."
    )
    thresholds: dict[TierName, Annotated[float, Field(ge=0, le=1)]] = Field(
        {},
        description="Probability that the smallest tier's answer is good enough, from which a tier writes; the last "
        "tier takes the rest. Where none is given: the model's own for the smallest tier, 0 for one in the middle.",
    )
    load_relief: float = Field(
        0.3,
        ge=0,
        le=1,
        description="Share by which a tier's threshold sinks while the next larger one is fully at work and it is not.",
    )


class DeadlineSettings(Branch):
    """No step waits longer than this."""

    turn_s: float = Field(60.0, gt=0, description="A whole turn, seconds.")
    understand_s: float = Field(5.0, gt=0, description="The encoder pass, seconds.")
    search_s: float = Field(5.0, gt=0, description="Retrieval, seconds.")
    tools_s: float = Field(10.0, gt=0, description="All tools that a flow calls in one turn, seconds.")
    log_s: float = Field(10.0, gt=0, description="One write to the turn log, seconds.")


class LogSettings(Branch):
    """What the processes say about their work; turns themselves are in the turn log."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level that is written; only debug has what customers write."
    )


_ANY_TENANT = TenantSettings()


class AppSettings(BaseSettings):
    """Everything that Raydesk is told."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="RAYDESK_",
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    app_name: str = Field("raydesk", description="Name of the Serve application.")
    http: HttpSettings = HttpSettings()
    auth: AuthSettings = AuthSettings()
    knowledge: KnowledgeSettings = KnowledgeSettings()
    encoder: EncoderSettings = EncoderSettings()
    intents: IntentSettings = IntentSettings()
    retriever: RetrieverSettings = RetrieverSettings()
    cache: CacheSettings = CacheSettings()
    sessions: SessionSettings = SessionSettings()
    turns: TurnSettings = TurnSettings()
    tiers: tuple[TierSettings, ...] = Field(
        (), description="Language models, smallest first; none: only curated answers and passages."
    )
    answers: AnswerSettings = AnswerSettings()
    tenants: dict[str, TenantSettings] = Field({}, description="By the tenant's name, where the defaults do not suit.")
    turn_log: TurnLogSettings = TurnLogSettings()
    rewriting: RewritingSettings = RewritingSettings()
    retries: RetrySettings = RetrySettings()
    routing: RoutingSettings = RoutingSettings()
    deadlines: DeadlineSettings = DeadlineSettings()
    logs: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings  # the environment wins over the file

    @model_validator(mode="after")
    def _exposed_only_with_keys(self) -> Self:
        if not self.is_loopback and not self.auth.keys and self.auth.keys_file is None:
            raise ValueError(
                f"http.bind_host is {self.http.bind_host}, which others can reach, but there are neither auth.keys "
                "nor an auth.keys_file: make a key with 'raydesk keys create' and add it, or bind to 127.0.0.1"
            )
        return self

    def tenant(self, name: str) -> TenantSettings:
        return self.tenants.get(name, _ANY_TENANT)

    @property
    def policy(self) -> str:
        """Everything here that decides what is answered: an answer made under another policy is not given again."""
        apart = {"placement", "replicas"}
        tiers = {"engine_kwargs", "env", "replicas", "breaker", "tool_call_parser", "chunk_interval_ms", "chunks_per_s"}
        return self.model_dump_json(
            include={"encoder", "intents", "retriever", "tiers", "rewriting", "routing", "answers", "tenants"},
            exclude={"intents": apart, "retriever": apart, "tiers": {"__all__": tiers}},
        )

    @model_validator(mode="after")
    def _reranks_where_it_fuses(self) -> Self:
        if self.retriever.reranker.model and self.retriever.placement == "deployment" and self.knowledge.parts > 1:
            raise ValueError(
                "retriever.reranker.model cannot be set where knowledge.parts are held by several retrievers"
            )
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        for what, names in (
            ("tiers", [tier.name for tier in self.tiers]),
            ("auth.keys", [key.id for key in self.auth.keys]),
        ):
            if len(set(names)) != len(names):
                raise ValueError(f"{what} has two entries of one name: {', '.join(names)}")
        return self

    @property
    def session_url(self) -> str:
        return self.sessions.url or self.cache.url

    @property
    def turns_url(self) -> str:
        return self.turns.url or self.cache.url

    @property
    def allowed_origins(self) -> tuple[str, ...]:
        """Of web pages that may use this service: those named, and those that have a key of their own."""
        named = (*self.http.allowed_origins, *(origin for key in self.auth.keys for origin in key.origins))
        return tuple(dict.fromkeys(named))

    @property
    def is_loopback(self) -> bool:
        return self.http.bind_host in ("127.0.0.1", "::1", "localhost")


class SettingsError(ValueError):
    """The settings file or environment is not valid; the message names file and key."""


def load_settings(path: Path, overrides: dict[str, Any] | None = None) -> AppSettings:
    """The settings of a YAML file; `overrides` (a nested dict) wins over the file, the environment over both."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{path} must hold a mapping of settings, not a {type(content).__name__}")
    try:
        return AppSettings(**_merged(content, overrides or {}))
    except ValidationError as error:
        lines = [
            f"  {'.'.join(str(part) for part in item['loc']) or 'settings'}: {item['msg']}" for item in error.errors()
        ]
        raise SettingsError(f"{path} is not valid:\n" + "\n".join(lines)) from error


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merged(merged[key], value)
        else:
            merged[key] = value
    return merged
