"""What a tier's settings switch on is taken by Serve and by vLLM as they are installed. Nothing is started."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.app import TierArguments, build_tier
from deployments.engine_wire import EngineRequest
from deployments.settings import AppSettings, TierSettings

pytestmark = pytest.mark.integration

SPECULATION = {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 4}


def test_serve_takes_the_router_that_looks_at_prompts() -> None:
    from ray.serve.llm.request_router import PrefixCacheAffinityRouter

    tier = TierSettings(name="small", model_id="m", model_source="m", routes_by_prefix=True)
    app = build_tier(TierArguments(settings=AppSettings(tiers=(tier,)), tier="small"))
    router = app._bound_deployment._deployment_config.request_router_config
    assert router.get_request_router_class() is PrefixCacheAffinityRouter


@pytest.mark.parametrize(
    "changes", [{"script": {}}, {"model_source": "m"}, {"model_source": "m", "routes_by_prefix": True}]
)
def test_serve_takes_tiers_with_a_router_of_their_own_behind_haproxy(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a check when an application is built, and by another one of what has come over a wire."""
    from ray.serve._private import build_app
    from ray.serve._private.config import DeploymentConfig

    monkeypatch.setattr(build_app, "RAY_SERVE_ENABLE_HA_PROXY", True)
    tier = TierSettings.model_validate({"name": "small", "model_id": "m"} | changes)
    app = build_tier(TierArguments(settings=AppSettings(tiers=(tier,)), tier="small"))
    (built,) = build_app.build_app(app, name="small", default_runtime_env={}).deployments
    sent = DeploymentConfig.from_proto_bytes(built._deployment_config.to_proto_bytes()).request_router_config
    assert sent.is_default_request_router()
    expected = "PrefixCacheAffinityRouter" if tier.routes_by_prefix else "SoundReplicaRouter"
    assert sent.get_request_router_class().__name__ == expected


def test_vllm_takes_a_parser_of_calls() -> None:
    from vllm.tool_parsers import ToolParserManager

    tier = TierSettings(name="small", model_id="m", model_source="m", tool_call_parser="llama3_json")
    app = build_tier(TierArguments(settings=AppSettings(tiers=(tier,)), tier="small"))
    switches = app._bound_deployment.init_kwargs["llm_config"].get_engine_config().frontend_kwargs
    assert switches == {"enable_auto_tool_choice": True, "tool_call_parser": "llama3_json"}
    assert "llama3_json" in ToolParserManager.list_registered()


async def test_the_router_can_look_into_what_we_send() -> None:
    from ray.serve._private.request_router.common import PendingRequest
    from ray.serve.llm.request_router import PrefixCacheAffinityRouter

    body = EngineRequest(messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}])
    pending = PendingRequest(args=[body, "holder", "generation"], kwargs={}, metadata=None)
    router = PrefixCacheAffinityRouter.__new__(PrefixCacheAffinityRouter)  # without the cluster that it begins with
    text = router._extract_text_from_request(pending)
    assert text.index("Be brief.") < text.index("Why?")


def test_vllm_takes_the_arguments_that_the_settings_name() -> None:
    from vllm.config import SpeculativeConfig
    from vllm.engine.arg_utils import EngineArgs

    tier = TierSettings(
        name="small",
        model_id="m",
        model_source="m",
        engine_kwargs={"enable_prefix_caching": True, "speculative_config": SPECULATION},
    )
    arguments = EngineArgs(model=tier.model_source, **tier.engine_kwargs)
    assert arguments.speculative_config == SPECULATION
    assert {"method", "num_speculative_tokens", "prompt_lookup_max"} <= set(SpeculativeConfig.__dataclass_fields__)


def test_vllm_takes_a_salt_and_a_beginning() -> None:
    from ray.serve.llm.openai_api_models import ChatCompletionRequest

    fields = ChatCompletionRequest.model_fields
    assert {"cache_salt", "continue_final_message", "add_generation_prompt"} <= set(fields)
