"""Webhooks: tells an address of the user's that a run has ended.

    secret = await register(records, outbound, run_id, url)   # shown once
    await deliver(records, outbound, clock, run_id, body)     # when the run has ended

A delivery is a POST with JSON. `PromptLab-Signature: t=<seconds>,v1=<hex>` is the HMAC-SHA256, under the
secret, of `<seconds>.<body>`: whoever checks it, and that the time is recent, knows who sent it. A failed one
is sent again, with longer and longer pauses; the run never waits for it. What was tried is recorded.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import time
from contextlib import suppress
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import orjson

from promptlab.domain.records import WEBHOOK as OF_RUNS
from promptlab.domain.results import RunRecord
from promptlab.domain.secrets import is_loopback_name, origin_of
from promptlab.errors import ConfigError
from promptlab.outbound import Outbound
from promptlab.ports import Clock, Records
from promptlab.report import brief
from promptlab.store_lab import StoreLab

WEBHOOK = OF_RUNS
"""The kind of record that a run with a webhook has, by its id."""
KEPT_S = 90 * 86_400.0
PAUSES_S = (2.0, 10.0, 60.0, 300.0)
"""Pauses between five attempts: six minutes, within what a function has."""
TIMEOUT_S = 10.0
MOST_KEPT = 20
"""Attempts that are recorded."""
MOST_URL = 2_000
logger = logging.getLogger(__name__)


def checked_url(url: str, outbound: Outbound) -> str:
    """Give an address that deliveries may go to.

    Raises:
        ConfigError: it is none: https only, but for this machine on a laptop; no name and password.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    local = not outbound.hosted and is_loopback_name(host)
    if not host or parts.scheme not in ("https", *(("http",) if local else ())) or len(url) > MOST_URL:
        raise ConfigError(
            f"The webhook's address {url[:100]!r} cannot be used: it begins with https://, and has at most "
            f"{MOST_URL:,} characters."
        )
    if parts.username or parts.password:
        raise ConfigError("The webhook's address has a name or a password: the signature says who sends it.")
    if any(ord(sign) <= 32 or ord(sign) == 127 for sign in url):
        raise ConfigError("The webhook's address has spaces or control characters: write them as %20.")
    with suppress(ValueError):  # a name is resolved, and judged, with each delivery
        if why := outbound.refusal(str(ip_address(host)), port or 443):
            raise ConfigError(f"The webhook's address {host!r} cannot be reached from here: {why}.")
    return url


async def register(records: Records, outbound: Outbound, run_id: str, url: str) -> str:
    """Record where a run's end is to be told, and make the secret of its signature.

    Of a run that has a webhook already the secret stays: a request that is sent twice at once starts one run,
    and whoever reads the one answer has to know what signs.

    Raises:
        ConfigError: deliveries may not go there.
    """
    checked_url(url, outbound)
    secret = f"whsec_{secrets.token_urlsafe(32)}"
    value = {"url": url, "secret": secret, "deliveries": []}
    ends = time.time() + KEPT_S
    if await records.put_record(WEBHOOK, run_id, value, expires_at=ends, only_if_absent=True):
        return secret
    return await secret_of(records, run_id) or secret


async def secret_of(records: Records, run_id: str) -> str | None:
    """The secret that signs deliveries of a run's end; None where it has no webhook."""
    found = await records.get_record(WEBHOOK, run_id)
    return None if found is None else str(found["secret"])


async def shown(records: Records, run_id: str, *, whole: bool = True) -> dict[str, Any] | None:
    """A run's webhook without its secret; None where it has none.

    Args:
        records: where it is recorded.
        run_id: the run.
        whole: its address with path and query, which are a key to many services (chat, builds), and not
            its host alone.
    """
    found = await records.get_record(WEBHOOK, run_id)
    if found is None:
        return None
    url = str(found["url"])
    return {"url": url if whole else f"{origin_of(url)}/…", "deliveries": found["deliveries"]}


async def news(lab: StoreLab, run: RunRecord) -> bytes:
    """Return what is told of a run that has ended: its numbers, as lists have them."""
    more = {"name": run.name, "tags": list(run.tags), "finished_at": run.finished_at, "error": run.error}
    numbers = brief(run, None if run.summary else await lab.progress(run.run_id))
    return orjson.dumps({"type": "run.ended", "generation": run.generation, **more, **numbers}, default=str)


async def tell(lab: StoreLab, run: RunRecord) -> bool:
    """Do as `deliver`, with the news of a run."""
    return await deliver(lab.ledger, lab.outbound, lab.clock, run.run_id, await news(lab, run))


def signature(secret: str, body: bytes, now_s: int) -> str:
    """The header that proves who sent a body, and when."""
    signed = hmac.new(secret.encode(), b"%d.%b" % (now_s, body), hashlib.sha256).hexdigest()
    return f"t={now_s},v1={signed}"


async def deliver(records: Records, outbound: Outbound, clock: Clock, run_id: str, body: bytes) -> bool:
    """Send a body to where the run's end is to be told, until it is taken or the attempts are used up.

    Returns:
        Whether it was taken, or nobody wants to know.
    """
    found = await records.get_record(WEBHOOK, run_id)
    if found is None:
        return True
    tried: list[dict[str, Any]] = list(found["deliveries"])
    identity = secrets.token_hex(16)
    for attempt, pause_s in enumerate((0.0, *PAUSES_S), 1):
        await clock.sleep(pause_s)
        status, error = await _send(outbound, found["url"], found["secret"], identity, body)
        taken = status is not None and 200 <= status < 300
        tried.append({"at": clock.now(), "attempt": attempt, "status": status, "error": error})
        value = {**found, "deliveries": tried[-MOST_KEPT:]}
        await records.put_record(WEBHOOK, run_id, value, expires_at=time.time() + KEPT_S)
        if taken or status == 410:  # gone: nobody is there to be told
            return taken
    logger.warning("the webhook of run %s was not taken: %s", run_id, tried[-1])
    return False


async def _send(
    outbound: Outbound, url: str, secret: str, identity: str, body: bytes
) -> tuple[int | None, str | None]:
    import aiohttp

    headers = {
        "Content-Type": "application/json",
        "User-Agent": "PromptLab-Webhook",
        "PromptLab-Delivery": identity,
        "PromptLab-Signature": signature(secret, body, int(time.time())),
    }
    try:
        async with (
            aiohttp.ClientSession(
                connector=outbound.connector(), timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)
            ) as session,
            session.post(url, data=body, headers=headers, allow_redirects=False) as answer,
        ):
            # What it says is not read: it may be any length, and is nobody's business.
            return answer.status, None if answer.status < 300 else f"status {answer.status}"
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        cause = error.__cause__ or error  # aiohttp's own words do not say why an address was refused
        return None, f"{type(cause).__name__}: {cause}"[:300]
