"""Clients of AWS services, one for each service and event loop.

Straight from aiobotocore, which aioboto3 only wraps: the plain clients are all that is needed, and
boto3's part of the import is not.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import importlib.util
import os
import threading
import weakref
from typing import Any

from promptlab.errors import ConfigError, MissingExtraError
from promptlab.loops import PerLoop

PATIENCE_S = 30.0
"""How long a call is tried again while AWS throttles, or cannot be reached: a worker has that much time."""
CONNECTIONS = 64
"""Connections that a client keeps to its service at most."""


class AwsSession:
    """The account and its region; credentials come the usual AWS ways. Shared by adapters, so that
    what is slow is loaded once.

    Args:
        region: the region; default: AWS_REGION, AWS_DEFAULT_REGION or that of the profile.
        profile: a profile of ~/.aws/config; default: AWS_PROFILE.
        endpoint_url: something else than AWS itself; default: AWS_ENDPOINT_URL.
        patience_s: how long a call is tried again while AWS throttles, or cannot be reached.
    """

    def __init__(
        self,
        *,
        region: str | None = None,
        profile: str | None = None,
        endpoint_url: str | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.region, self.profile, self.endpoint_url = region, profile, endpoint_url
        self.patience_s = patience_s
        # A session holds locks that belong to the loop they were first waited for in.
        self._cores: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = weakref.WeakKeyDictionary()
        self._loader: Any = None
        self._lock = threading.Lock()

    def clients(self, service: str, **config: Any) -> PerLoop[Any]:
        """The service's client of each loop, opened on first use; `config` is botocore's.

        `get()` of the result raises ConfigError when there is no region, MissingExtraError without
        aiobotocore.
        """
        return PerLoop(functools.partial(self._open, service, config), _close)

    async def _open(self, service: str, config: dict[str, Any]) -> Any:
        core = await asyncio.to_thread(self._load, asyncio.get_running_loop(), service)
        settings: dict[str, Any] = {
            "max_pool_connections": CONNECTIONS,
            "connect_timeout": 5,
            "tcp_keepalive": True,
            **config,
        }
        if self.patience_s < PATIENCE_S:
            # Three attempts in botocore's standard mode pause for 3 s at most.
            retries = settings.get("retries", {"mode": "standard"})
            attempts = min(3, retries.get("total_max_attempts", 3))
            settings |= {"connect_timeout": 2, "read_timeout": self.patience_s}
            settings["retries"] = {**retries, "total_max_attempts": attempts}
        if service == "s3":
            # Buckets as host names resolve at AWS only. There the region's own: a browser may not follow the
            # redirect by which the global address answers for a bucket of another region.
            settings["s3"] = (
                {"addressing_style": "path"}
                if self._elsewhere()
                else {"addressing_style": "virtual", "us_east_1_regional_endpoint": "regional"}
            )
        aio = importlib.import_module("aiobotocore.config").AioConfig(**settings)
        return await core.create_client(
            service,
            region_name=core.get_config_variable("region"),
            endpoint_url=self.endpoint_url,
            config=aio,
        ).__aenter__()

    def _elsewhere(self) -> bool:
        return bool(
            self.endpoint_url or os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT_URL_S3")
        )

    def _load(self, loop: asyncio.AbstractEventLoop, service: str) -> Any:
        """The loop's session, with all that is slow to load for a service: that is why
        this runs in a thread."""
        if importlib.util.find_spec("aiobotocore") is None:
            raise MissingExtraError("A store on AWS", "aws")
        with self._lock:
            core = self._cores.get(loop)
            if core is None:
                core = self._cores[loop] = self._core()
            for kind in ("service-2", "endpoint-rule-set-1"):
                self._loader.load_service_model(service, kind)
        return core

    def _core(self) -> Any:
        core = importlib.import_module("aiobotocore.session").AioSession(profile=self.profile)
        # botocore reads AWS_DEFAULT_REGION; Lambda and the other SDKs have AWS_REGION.
        region = self.region or os.environ.get("AWS_REGION") or core.get_config_variable("region")
        if not region:
            raise ConfigError(
                "There is no AWS region: set AWS_REGION or AWS_DEFAULT_REGION, or give the profile one "
                "(aws configure)."
            )
        core.set_config_variable("region", region)
        # What the services look like is the same for every loop, and slow to read.
        self._loader = self._loader or core.get_component("data_loader")
        core.register_component("data_loader", self._loader)
        for name in ("endpoints", "partitions", "sdk-default-configuration"):
            self._loader.load_data(name)
        return core


async def _close(client: Any) -> None:
    await client.close()
