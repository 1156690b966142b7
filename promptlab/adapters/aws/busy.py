"""Which errors of AWS pass by themselves: it is throttling, or cannot be reached for a moment."""

from __future__ import annotations

CODES = frozenset(
    {
        *("ProvisionedThroughputExceeded", "Throttling", "ThrottlingError", "Throttled", "TooManyRequests"),
        *("RequestLimitExceeded", "RequestThrottled", "SlowDown", "LimitExceeded", "RequestTimeout"),
        *("TransactionConflict", "TransactionInProgress", "InternalServerError", "InternalFailure"),
        *("InternalError", "ServiceUnavailable", "BandwidthLimitExceeded", "PriorRequestNotComplete"),
    }
)
"""Codes without "Exception" at their end; as botocore's standard mode retries, and DynamoDB's conflicts."""


def codes(error: BaseException) -> set[str]:
    """Say why AWS refused a call: by its code, or the reasons of a transaction; none for other errors."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return set()
    reasons = {reason.get("Code") for reason in response.get("CancellationReasons", ())} - {"None", None}
    found = reasons or {response.get("Error", {}).get("Code")}
    return {str(code).removesuffix("Exception") for code in found if code}


def is_busy(error: BaseException) -> bool:
    """Whether a call that failed so may be granted in a while."""
    from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

    if isinstance(error, BaseExceptionGroup):
        return all(is_busy(one) for one in error.exceptions)
    if isinstance(error, ClientError):
        found = codes(error)
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return (bool(found) and found <= CODES) or status >= 500
    return isinstance(error, ConnectionError | HTTPClientError)
