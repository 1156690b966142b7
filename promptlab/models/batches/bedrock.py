"""Bedrock's batch inference: a file in S3, a job, and a file of answers in S3."""

from __future__ import annotations

import asyncio
import functools
import importlib
import os
import re
import urllib.parse
from collections.abc import AsyncIterator, Awaitable
from typing import Any, ClassVar

import orjson

from promptlab.domain.chat import Prompt
from promptlab.domain.results import ModelResponse
from promptlab.errors import ConfigError, ModelError
from promptlab.loops import PerLoop
from promptlab.models.answers import mapping
from promptlab.models.batches.base import (
    CLOCK_SKEW_S,
    LIST_PAGES,
    Batches,
    BatchState,
    Ended,
    Limits,
    Result,
    Submission,
    encoded,
    lines_of,
    object_of,
)
from promptlab.models.bedrock import OF_BATCHES, BedrockModel
from promptlab.models.bedrock_client import CONNECT_S, close_client, session_of
from promptlab.models.failures import status_error
from promptlab.models.wire.parts import NOTHING, Loaded

S3_VARIABLE, ROLE_VARIABLE = "PROMPTLAB_BATCH_S3_URI", "PROMPTLAB_BATCH_ROLE_ARN"
PART_BYTES = 16 << 20
_URI = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._=/-]*)?")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/\S{1,512}")
_ENDS: dict[str, Ended] = {
    "Completed": "",
    "PartiallyCompleted": "",
    "Failed": "failed",
    "Stopped": "cancelled",
    "Expired": "expired",
}


class BedrockBatches(Batches):
    """`CreateModelInvocationJob` with records in Converse's form.

    The bucket and the role are `batch_s3_uri` and `batch_role_arn` of the model, or those of the environment.
    A deployed lab has its own bucket, where a batch lies in its run's folder, and a role of its stack.
    """

    # The quotas of docs.aws.amazon.com/bedrock/latest/userguide/quotas.html for most models.
    limits = Limits(50_000, 200_000_000, 100)
    keeps_days: ClassVar[int] = 365

    def __init__(self, model: BedrockModel) -> None:
        self._model = model
        extras = model.config.extra_params
        if model.outbound.hosted:
            _check_hosted(model)
        uri = extras.get("batch_s3_uri") or os.environ.get(S3_VARIABLE)
        role = extras.get("batch_role_arn") or os.environ.get(ROLE_VARIABLE)
        if not isinstance(uri, str) or not _URI.fullmatch(uri):
            raise ConfigError(
                f"Model {model.name!r}: Bedrock's batches need a place in S3, as in batch_s3_uri: "
                f"s3://my-bucket/batches, or {S3_VARIABLE} in the environment; got {uri!r}"
            )
        if not isinstance(role, str) or not _ROLE.fullmatch(role):
            raise ConfigError(
                f"Model {model.name!r}: Bedrock's batches need a role that may read and write {uri}, as in "
                f"batch_role_arn: arn:aws:iam::123456789012:role/batches, or {ROLE_VARIABLE} in the "
                f"environment; got {role!r}"
            )
        self._role = role
        parts = urllib.parse.urlsplit(uri)
        self._bucket, self._prefix = parts.netloc, parts.path.strip("/")
        self._jobs: PerLoop[Any] = PerLoop(functools.partial(self._open, "bedrock"), close_client)
        self._s3: PerLoop[Any] = PerLoop(functools.partial(self._open, "s3"), close_client)

    async def _open(self, service: str) -> Any:
        config = self._model.config
        session = await asyncio.to_thread(session_of, config)
        loader = session.get_component("data_loader")
        for kind in ("service-2", "endpoint-rule-set-1", "paginators-1"):
            await asyncio.to_thread(loader.load_service_model, service, kind)
        settings = importlib.import_module("aiobotocore.config").AioConfig(
            connect_timeout=CONNECT_S,
            read_timeout=max(60.0, config.timeout_s),
            retries={"mode": "standard", "max_attempts": 3},
        )
        # An endpoint of Bedrock's runtime is none of S3: a stand-in for all of AWS is.
        endpoint = config.endpoint if service == "bedrock" else None
        endpoint = endpoint or os.environ.get(f"AWS_ENDPOINT_URL_{service.upper()}")
        client = await session.create_client(
            service, endpoint_url=endpoint or os.environ.get("AWS_ENDPOINT_URL"), config=settings
        ).__aenter__()
        if service == "bedrock":
            client.meta.events.register("before-call.bedrock.CreateModelInvocationJob", _as_converse)
        return client

    def _key(self, batch: Submission, name: str) -> str:
        parts = (self._prefix, batch.folder, batch.token, name)
        return "/".join(part for part in parts if part)

    def line(self, custom_id: str, messages: Prompt, data: Loaded = NOTHING) -> bytes:
        request = self._model.payload(messages, data)
        del request["modelId"]
        return encoded({"recordId": custom_id, "modelInput": request}, self._model.name)

    async def submit(self, batch: Submission) -> str:
        await self._put(self._key(batch, f"{batch.token}.jsonl"), batch)
        client = await self._jobs.get()
        found = await self._call(
            client.create_model_invocation_job(
                jobName=batch.token,
                clientRequestToken=batch.token,
                roleArn=self._role,
                modelId=self._model.config.model_id,
                inputDataConfig={"s3InputDataConfig": {"s3Uri": self._uri(batch, f"{batch.token}.jsonl")}},
                outputDataConfig={"s3OutputDataConfig": {"s3Uri": self._uri(batch, "out/")}},
            )
        )
        return str(found["jobArn"])

    def _uri(self, batch: Submission, name: str) -> str:
        return f"s3://{self._bucket}/{self._key(batch, name)}"

    async def _put(self, key: str, batch: Submission) -> None:
        """Upload the records in parts, in memory for one."""
        s3, where = await self._s3.get(), {"Bucket": self._bucket, "Key": key}
        begun = await self._call(s3.create_multipart_upload(**where, ContentType="application/jsonl"))
        where["UploadId"] = begun["UploadId"]
        parts: list[dict[str, Any]] = []
        async for piece in _pieces(batch.content(), PART_BYTES):
            number = len(parts) + 1
            sent = await self._call(s3.upload_part(**where, PartNumber=number, Body=piece), _patience(piece))
            parts.append({"PartNumber": number, "ETag": sent["ETag"]})
        await self._call(s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts}))

    async def find(self, batch: Submission) -> str | None:
        client, token = await self._jobs.get(), dict[str, str]()
        for _ in range(LIST_PAGES):
            page = await self._call(
                client.list_model_invocation_jobs(
                    nameContains=batch.token, maxResults=100, sortBy="CreationTime", **token
                )
            )
            for item in page.get("invocationJobSummaries") or ():
                young = item["submitTime"].timestamp() >= batch.since - CLOCK_SKEW_S
                if item.get("jobName") == batch.token and young:
                    return str(item["jobArn"])
            if not page.get("nextToken"):
                return None
            token = {"nextToken": page["nextToken"]}
        return None

    async def look(self, batch_id: str, batch: Submission) -> BatchState:
        client = await self._jobs.get()
        found = await self._call(client.get_model_invocation_job(jobIdentifier=batch_id))
        status = str(found.get("status"))
        ended = status in _ENDS
        output = mapping(mapping(found.get("outputDataConfig")).get("s3OutputDataConfig")).get("s3Uri", "")
        prefix = urllib.parse.urlsplit(output).path.strip("/")
        files = await self._outputs(f"{prefix}/{batch_id.rpartition('/')[2]}/") if ended else ()
        return BatchState(
            ended=ended,
            reason=_ENDS.get(status, ""),
            message=str(found.get("message") or "")[:500],
            files=files,
        )

    async def _outputs(self, prefix: str) -> tuple[str, ...]:
        s3 = await self._s3.get()
        page = await self._call(s3.list_objects_v2(Bucket=self._bucket, Prefix=prefix))
        keys = (str(item["Key"]) for item in page.get("Contents") or ())
        return tuple(key for key in keys if key.endswith(".jsonl.out"))

    async def results(self, batch_id: str, state: BatchState) -> AsyncIterator[Result]:
        s3 = await self._s3.get()
        for key in state.files:
            found = await self._call(s3.get_object(Bucket=self._bucket, Key=key))
            async with found["Body"]:  # what this gives differs between aiobotocore 2 and 3
                async for line in lines_of(found["Body"].iter_chunks(2**18), self._model.name):
                    item = object_of(line)
                    if isinstance(item.get("recordId"), str):
                        yield item["recordId"], self._result(item)

    def _result(self, item: dict[str, Any]) -> ModelResponse | ModelError:
        name = self._model.name
        if error := mapping(item.get("error")):
            status = error.get("errorCode")
            status = status if isinstance(status, int) and 400 <= status < 600 else 500
            said = orjson.dumps({"message": str(error.get("errorMessage") or "")[:2000]})
            return status_error(name, status, {}, said)
        output = item.get("modelOutput")
        try:
            if not isinstance(output, dict):
                raise self._model.invalid("without modelOutput", "")
            with self._model.reading(output):
                answer = self._model.read_answer(output, None)
        except ModelError as broken:
            return broken
        return answer

    async def _call(self, call: Awaitable[Any], timeout_s: float | None = None) -> Any:
        return await self._model.call(call, timeout_s)

    async def aclose(self) -> None:
        await self._jobs.aclose()
        await self._s3.aclose()


def _check_hosted(model: BedrockModel) -> None:
    """Refuse what a deployed lab has itself, or has not.

    Raises:
        ConfigError: the model names a place or a role, or the stack has none.
    """
    if named := [name for name in OF_BATCHES if model.config.extra_params.get(name)]:
        raise ConfigError(
            f"Model {model.name!r}: a deployed lab has a place and a role of its own for Bedrock's batches: "
            f"leave {' and '.join(named)} out"
        )
    if not os.environ.get(ROLE_VARIABLE):
        raise ConfigError(
            f"Model {model.name!r}: this lab's stack has no role for Bedrock's batches: deploy it with "
            "BedrockModels"
        )


def _as_converse(params: dict[str, Any], **_: Any) -> None:
    """Say that the records are in Converse's form: boto3 1.40.61, the newest that aioboto3 takes, has no
    parameter for it."""
    params["body"] = orjson.dumps(orjson.loads(params["body"]) | {"modelInvocationType": "Converse"})


async def _pieces(chunks: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """Gather a stream's bytes to pieces of a size; the last may be smaller."""
    held = bytearray()
    async for chunk in chunks:
        held += chunk
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)


def _patience(piece: bytes) -> float:
    """Seconds that a part may take: as over a line of 50 KB a second."""
    return 60.0 + len(piece) / 50_000
