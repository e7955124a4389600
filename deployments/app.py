"""Puts the rooms on Ray Serve. The only file that says `serve.deployment`, `serve.ingress` or `.bind`.

Two builders: `build_app` makes the application that answers, `build_tier` one language model. A tier is a Serve
application of its own: the desk answers rules, curated answers and cache hits while a model is still loading, and
a model that cannot start, or is being upgraded, takes nothing else down.
"""

# No `from __future__ import annotations` here: Serve reads the builders' annotations to check `args:` of a config file.

from functools import partial
from typing import Any

from pydantic import Field
from ray import serve
from ray.serve.config import BackpressureConfig, RequestRouterConfig
from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette

from deployments.actors import is_actor_alive
from deployments.answering.errors import OverloadedError
from deployments.ingress import IngressApp, Rooms
from deployments.intent_classifier import IntentClassifier
from deployments.llm import Tier
from deployments.llm_scaling import TokenPolicy
from deployments.logs import configure_logs
from deployments.node_metrics import NodeMetrics
from deployments.openai_engine import OpenAIEngine
from deployments.redacted_llm import RedactedLLM
from deployments.remote import (
    RemoteCache,
    RemoteIntentClassifier,
    RemoteLLM,
    RemoteRetriever,
    RemoteScript,
    RemoteTurnLog,
)
from deployments.replica_router import SoundReplicaRouter
from deployments.replicas import Replicas, known_as
from deployments.retriever import Retriever
from deployments.scripted_engine import ScriptedEngine
from deployments.semantic_cache import SemanticCache
from deployments.sessions import Sessions
from deployments.settings import AppSettings, Branch, LogSettings, ReplicaSettings, TierSettings
from deployments.sharded_retriever import ShardedRetriever
from deployments.turn_log import TurnLog
from deployments.turns.event_log import EventLog
from ingestion.store import Shard

Handles = dict[str, DeploymentHandle]
_PREFIX_ROUTER = "ray.serve.llm.request_router.PrefixCacheAffinityRouter"
TIER_DEPLOYMENT = "tier"  # its name within the tier's own application
SURGE_PERCENT = 20  # as many as Serve replaces at a time; one at least


def build_app(settings: AppSettings) -> serve.Application:
    """The application that answers: the ingress, and each room whose placement is 'deployment'."""
    apart: dict[str, tuple[Any, Any, tuple[Any, ...]]] = {
        "turn_log": (TurnLog, settings.turn_log, (settings.turn_log,))
    }
    if settings.intents.placement == "deployment":
        apart["intent_classifier"] = (IntentClassifier, settings.intents, (settings.encoder, settings.intents))
    if settings.retriever.placement == "deployment":
        for name, shard in _shards(settings).items():
            arguments = (settings.knowledge, settings.encoder, shard, settings.retriever.reranker, _first(settings))
            apart[name] = (Retriever, settings.retriever, arguments)
    if settings.cache.enabled and settings.cache.placement == "deployment":
        apart["semantic_cache"] = (SemanticCache, settings.cache, (settings.cache,))
    handles = {
        name: _deployment(_telling(room, name, settings.logs), name, branch.replicas).bind(*arguments)
        for name, (room, branch, arguments) in apart.items()
    }
    ingress = serve.ingress()(Ingress)
    return _deployment(ingress, "ingress", settings.http.replicas).bind(settings, handles)


class TierArguments(Branch):
    """`args` of a tier's application."""

    settings: AppSettings
    tier: str = Field(description="Name of one of settings.tiers.")


def build_tier(arguments: TierArguments) -> serve.Application:
    """One language model. Run it under the name `tier_app_name(…)`."""
    tier = _tier(arguments)
    if tier.script is not None:
        options = _tier_options(tier) | _routing(tier)
        engine = _deployment(ScriptedEngine, TIER_DEPLOYMENT, tier.replicas).options(**options)
        return engine.bind(tier, is_actor_alive)
    return _vllm(tier)


def _vllm(tier: TierSettings) -> serve.Application:
    from ray.serve.llm import LLMConfig, build_llm_deployment  # imports vLLM: seconds, and only where a tier is built

    from deployments.engine import TierServer

    bundle = {"CPU": tier.replicas.num_cpus} | ({"GPU": tier.replicas.num_gpus} if tier.replicas.num_gpus else {})
    config = LLMConfig(
        model_loading_config={"model_id": tier.model_id, "model_source": tier.model_source},
        accelerator_type=tier.accelerator_type,
        placement_group_config={"bundles": [bundle]},
        engine_kwargs=tier.engine_kwargs | _tools(tier),
        experimental_configs={"stream_batching_interval_ms": 0},  # it would hold the first token back; see `Pace`
        runtime_env={"env_vars": tier.env},
        deployment_config=_tier_options(tier) | _routing(tier),
    )
    return build_llm_deployment(
        config,
        bind_kwargs={"tier": tier},
        deployment_cls=TierServer,
        override_serve_options={"name": TIER_DEPLOYMENT},
    )


def _tools(tier: TierSettings) -> dict[str, Any]:
    if tier.tool_call_parser is None:
        return {}
    return {"enable_auto_tool_choice": True, "tool_call_parser": tier.tool_call_parser}


def _routing(tier: TierSettings) -> dict[str, Any]:
    router = (
        _PREFIX_ROUTER if tier.routes_by_prefix else f"{SoundReplicaRouter.__module__}.{SoundReplicaRouter.__name__}"
    )
    config = RequestRouterConfig(request_router_class=router)
    # With HAProxy Serve refuses a router of an application's first deployment, by this name: what comes over HTTP would
    # pass it by. A tier has no route, and all who call it have a handle, which goes by the class and not by its name.
    config.request_router_class = RequestRouterConfig().request_router_class
    return {"request_router_config": config}


def _tier(arguments: TierArguments) -> TierSettings:
    tiers: dict[str, TierSettings] = {tier.name: tier for tier in arguments.settings.tiers}
    try:
        tier = tiers[arguments.tier]
    except KeyError:
        known = ", ".join(tiers) or "none"
        raise ValueError(f"tier: settings.tiers has no {arguments.tier!r} (there are: {known})") from None
    if tier.openai is not None:
        raise ValueError(f"tier: {tier.name} answers at {tier.openai.base_url}: there is nothing to start here")
    return tier


def tier_app_name(app_name: str, tier_name: str) -> str:
    return f"{app_name}-{tier_name}"


def tier_llm(app_name: str, tier: TierSettings, holder: str = "") -> RemoteLLM:
    """The language model of a tier that runs, or will. holder: the actor of the Serve replica in which this is."""
    handle = DeploymentHandle(TIER_DEPLOYMENT, tier_app_name(app_name, tier.name))
    return RemoteLLM(handle, tier.accept_timeout_s, holder)


def script_of(app_name: str, tier_name: str, timeout_s: float) -> RemoteScript:
    """The engine of a scripted tier, for tests."""
    return RemoteScript(DeploymentHandle(TIER_DEPLOYMENT, tier_app_name(app_name, tier_name)), timeout_s)


def turn_log_of(app_name: str, timeout_s: float) -> RemoteTurnLog:
    """The turn log of a running application, for the command line and for tests."""
    return RemoteTurnLog(DeploymentHandle("turn_log", app_name), timeout_s)


class Ingress:
    """The HTTP room; rooms placed 'ingress' live in it."""

    def __init__(self, settings: AppSettings, handles: Handles) -> None:
        configure_logs(settings.logs, deployment="ingress", replica=serve.get_replica_context().replica_tag)
        self._app = IngressApp(settings, _rooms(settings, handles), NodeMetrics().publish)

    def __serve_build_asgi_app__(self) -> Starlette:
        return self._app.asgi

    async def check_health(self) -> None:
        """Serve asks before it sends customers to a new replica, and ever again: it knows by then what others know."""
        await self._app.settled()


def _rooms(settings: AppSettings, handles: Handles) -> Rooms:
    start: dict[str, Any] = {}
    look: dict[str, Any] = {}
    stop: list[Any] = []
    classifier: Any = _remote(RemoteIntentClassifier, handles, "intent_classifier", settings.deadlines.understand_s)
    if classifier is None:
        classifier = IntentClassifier(settings.encoder, settings.intents)
        start["intent_classifier"] = classifier.warm_up
        stop.append(classifier.stop)
    else:
        look["intent_classifier"] = partial(classifier.understand, "are you there?")
    retriever: Any = _remote_retriever(settings, handles)
    if retriever is None:
        retriever = Retriever(settings.knowledge, settings.encoder, reranker=settings.retriever.reranker)
        stop.append(retriever.stop)
    else:
        look["retriever"] = retriever.ping
    start["retriever"] = partial(retriever.warm_up, *_first(settings))
    cache: Any = None
    if settings.cache.enabled:
        cache = _remote(RemoteCache, handles, "semantic_cache", settings.cache.timeout_s)
        if cache is None:
            cache = SemanticCache(settings.cache)
            stop.append(cache.stop)
        start["semantic_cache"] = cache.start
        look["semantic_cache"] = cache.ping
    sessions: Sessions | None = None
    if settings.sessions.enabled:
        sessions = Sessions(settings.sessions, settings.session_url)
        stop.append(sessions.stop)
        look["sessions"] = sessions.ping
    events = EventLog(settings.turns, settings.turns_url)
    stop.append(events.stop)
    turn_log = RemoteTurnLog(handles["turn_log"], settings.deadlines.log_s)
    look["turn_log"] = turn_log.ping
    tiers = []
    for tier in settings.tiers:
        if tier.openai is None:
            llm = tier_llm(settings.app_name, tier, _own_actor())
            replicas = known_as(tier_app_name(settings.app_name, tier.name), Replicas(tier.breaker))
            tiers.append(Tier(tier, llm, replicas=replicas))
        else:
            engine = OpenAIEngine(tier, tier.openai.api_key())
            tiers.append(Tier(tier, RedactedLLM(engine) if tier.openai.redacted else engine, engine.ping))
            stop.append(engine.stop)
    return Rooms(
        classifier,
        retriever,
        cache,
        turn_log,
        tiers,
        sessions=sessions,
        events=events,
        start=start,
        look=look,
        stop=stop,
    )


def _own_actor() -> str:
    """The name of this replica's actor, by which others can ask whether it lives."""
    return str(serve.get_replica_context().replica_id.to_full_id_str())


def _first(settings: AppSettings) -> tuple[str, str]:
    """Tenant and collection that are there before the first customer asks."""
    return settings.auth.loopback_tenant, settings.knowledge.default_collection


def _remote(kind: Any, handles: Handles, name: str, timeout_s: float) -> Any:
    return kind(handles[name], timeout_s) if name in handles else None


def _shards(settings: AppSettings) -> dict[str, Shard]:
    """By the deployment's name: one that holds everything, or one for each part."""
    parts = settings.knowledge.parts
    return {"retriever" if parts == 1 else f"retriever-{part}": Shard(part, parts) for part in range(parts)}


def _remote_retriever(settings: AppSettings, handles: Handles) -> RemoteRetriever | ShardedRetriever | None:
    limit_s = settings.deadlines.search_s
    shards = [RemoteRetriever(handles[name], limit_s) for name in _shards(settings) if name in handles]
    if len(shards) > 1:
        return ShardedRetriever(shards)
    return shards[0] if shards else None


def _telling(room: Any, name: str, logs: LogSettings) -> Any:
    """The room in a process of its own, whose log is written as the ingress's is."""

    class Telling(room):  # type: ignore[misc]
        def __init__(self, *arguments: Any) -> None:
            configure_logs(logs, deployment=name, replica=serve.get_replica_context().replica_tag)
            super().__init__(*arguments)

    return Telling


def _deployment(room: Any, name: str, replicas: ReplicaSettings) -> serve.Deployment:
    return serve.deployment(
        room,
        name=name,
        ray_actor_options={"num_cpus": replicas.num_cpus, "num_gpus": replicas.num_gpus},
        # The turn log says what was asked and how it went. Serve's line for every call costs a twentieth of a core.
        logging_config={"enable_access_log": False},
        **_deployment_options(replicas),
    )


def _tier_options(tier: TierSettings) -> dict[str, Any]:
    """Where it scales by tokens, with the policy that counts them."""
    options = _deployment_options(tier.replicas)
    target_tokens = tier.replicas.target_tokens_in_flight
    if "autoscaling_config" in options and target_tokens is not None:
        arguments = {"target_tokens": target_tokens, "usual_tokens": tier.max_output_tokens}
        policy = {"policy_function": f"{TokenPolicy.__module__}:{TokenPolicy.__name__}", "policy_kwargs": arguments}
        options["autoscaling_config"] |= {"policy": policy}
    return options


def _deployment_options(replicas: ReplicaSettings) -> dict[str, Any]:
    least, most = replicas.min_replicas, replicas.max_replicas or replicas.min_replicas
    by_load = {
        "min_replicas": least,
        "max_replicas": most,
        "target_ongoing_requests": replicas.target_ongoing_requests,
        "upscale_delay_s": replicas.upscale_delay_s,
        "downscale_delay_s": replicas.downscale_delay_s,
    }
    return {
        **({"autoscaling_config": by_load} if most > least else {"num_replicas": least}),
        "max_ongoing_requests": replicas.max_ongoing_requests,
        "max_queued_requests": replicas.max_queued_requests,
        "backpressure_config": BackpressureConfig(retry_after_s=OverloadedError.retry_after_s),
        "health_check_period_s": replicas.health_check_period_s,
        "health_check_timeout_s": replicas.health_check_timeout_s,
        "graceful_shutdown_timeout_s": replicas.graceful_shutdown_timeout_s,
        "max_surge_percent": SURGE_PERCENT if replicas.surge else 0,
    }
