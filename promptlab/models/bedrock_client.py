"""The AWS client that Bedrock's models use: its session, and answers read within a bound."""

from __future__ import annotations

import asyncio
import functools
import importlib
import os
from typing import Any

from promptlab.domain.model_config import ModelConfig
from promptlab.errors import ConfigError
from promptlab.models.bodies import MAX_ERROR_BYTES, read_body
from promptlab.models.endpoints import proxy_for

ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "AWS_ENDPOINT_URL")
CONNECT_S = 10.0
_CHUNK = 2**16


@functools.cache
def _bounded_session() -> Any:
    """Make the HTTP session that reads answers itself, for botocore's reads whatever comes."""
    base = importlib.import_module("aiobotocore.httpsession").AIOHTTPSession

    class BoundedSession(base):  # type: ignore[misc, valid-type]
        async def send(self, request: Any) -> Any:
            streamed, request.stream_output = request.stream_output, True
            response = await super().send(request)
            refused = response.status_code >= 300
            if refused or not streamed:
                try:
                    chunks = response.raw.content.iter_chunked(_CHUNK)
                    response._content = await (
                        read_body(chunks, most=MAX_ERROR_BYTES, cut=True) if refused else read_body(chunks)
                    )
                finally:
                    response.raw.release()
            return response

    return BoundedSession


def session_of(config: ModelConfig) -> Any:
    """Make a session with all that is slow to load: half a second, which belongs in a thread."""
    extras = config.extra_params
    profile = extras.get("profile") or extras.get("profile_name")
    core = importlib.import_module("aiobotocore.session").AioSession(profile=profile)
    # AWS_REGION is what Lambda and the other SDKs have; botocore reads AWS_DEFAULT_REGION only.
    named = extras.get("region") or extras.get("region_name") or os.environ.get("AWS_REGION")
    region = named or core.get_config_variable("region")
    if not region:
        raise ConfigError(
            f"Model {config.name!r} needs an AWS region: set AWS_REGION or AWS_DEFAULT_REGION, or pass "
            "region='us-east-1' to the model"
        )
    try:
        importlib.import_module("botocore.utils").validate_region_name(region)
    except ValueError as error:  # it becomes a part of the host's name
        raise ConfigError(
            f"Model {config.name!r}: region {region[:100]!r} is not one of AWS's: {error}"
        ) from error
    core.set_config_variable("region", region)
    loader = core.get_component("data_loader")
    for name in ("endpoints", "partitions", "sdk-default-configuration"):
        loader.load_data(name)
    for kind in ("service-2", "endpoint-rule-set-1"):
        loader.load_service_model("bedrock-runtime", kind)
    return core


def address_of(config: ModelConfig, region: str) -> str:
    """Where Bedrock's calls of a model go, by botocore's rules but for an AWS profile's `endpoint_url`."""
    named = next((os.environ[name] for name in ENDPOINT_VARIABLES if os.environ.get(name)), None)
    return config.endpoint or named or f"https://bedrock-runtime.{region}.amazonaws.com"


def _bundle() -> str | None:
    """The file of certificates that is trusted, where it is not botocore's own choice (AWS_CA_BUNDLE)."""
    return None if os.environ.get("AWS_CA_BUNDLE") else os.environ.get("SSL_CERT_FILE") or None


async def open_client(config: ModelConfig) -> Any:
    session = await asyncio.to_thread(session_of, config)
    # botocore's own reading of no_proxy knows neither networks nor ports.
    proxy = proxy_for(address_of(config, session.get_config_variable("region")))
    settings = importlib.import_module("aiobotocore.config").AioConfig(
        connect_timeout=CONNECT_S,
        read_timeout=config.timeout_s,
        max_pool_connections=max(100, 2 * config.max_concurrent_tasks),
        proxies={"http": proxy, "https": proxy} if proxy else {},
        retries={"total_max_attempts": 1},  # with_retries has them
        http_session_cls=_bounded_session(),
    )
    return await session.create_client(
        "bedrock-runtime", endpoint_url=config.endpoint, config=settings, verify=_bundle()
    ).__aenter__()


async def close_client(client: Any) -> None:
    await client.close()
