"""A deployed stack, as whoever has AWS credentials sees it: its outputs, its admin
token, its provider keys."""

from __future__ import annotations

import os
import secrets
import tomllib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptlab.domain.projects import DEFAULT_PROJECT, checked_project
from promptlab.domain.secrets import Secret
from promptlab.errors import ConfigError

if TYPE_CHECKING:
    from promptlab.adapters.aws.secrets_manager import SecretsManagerSecrets

SAM_CONFIG = "samconfig.toml"
DEFAULT_STACK = "promptlab"
"""The stack's name in the samconfig.toml that comes with the template."""
_LOGIN = "Log in (aws sso login, aws configure), or name a profile with --profile or AWS_PROFILE"


class Stack:
    """One stack in one region.

    Args:
        name: its name; default: PROMPTLAB_STACK, that of ./samconfig.toml, `promptlab`.
        region: default: AWS_REGION, AWS_DEFAULT_REGION, that of ./samconfig.toml, that of the profile.
        profile: a profile of ~/.aws/config; default: AWS_PROFILE.

    Raises:
        ConfigError: ./samconfig.toml cannot be read.
    """

    def __init__(
        self, name: str | None = None, *, region: str | None = None, profile: str | None = None
    ) -> None:
        from promptlab.adapters.aws.session import AwsSession

        deployed = _sam_settings()
        self.name = name or os.environ.get("PROMPTLAB_STACK") or deployed.get("stack_name") or DEFAULT_STACK
        region = (
            region
            or os.environ.get("AWS_REGION")
            or os.environ.get("AWS_DEFAULT_REGION")
            or deployed.get("region")
        )
        self._region, self._profile = region, profile
        self._session = AwsSession(region=region, profile=profile)

    def __str__(self) -> str:
        return f"the stack {self.name!r}{f' in {self._region}' if self._region else ''}"

    async def outputs(self) -> dict[str, str]:
        """The outputs of the stack: `StudioUrl`, `SecretsPrefix`, …

        Raises:
            ConfigError: AWS cannot be asked, or there is no such stack; the message says what to do.
        """
        found = await self.described()
        return {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", ())}

    async def described(self) -> dict[str, Any]:
        """The stack, as CloudFormation describes it.

        Raises:
            ConfigError: as `outputs`.
        """
        clients = self._session.clients("cloudformation")
        async with self._explained():
            try:
                found = await (await clients.get()).describe_stacks(StackName=self.name)
            finally:
                await clients.aclose()
        stack: dict[str, Any] = found["Stacks"][0]
        return stack

    async def resources(self) -> dict[str, tuple[str, str]]:
        """Kind and physical name of each resource, by its name in the template.

        Raises:
            ConfigError: as `outputs`.
        """
        found, more = dict[str, tuple[str, str]](), dict[str, str]()
        async with self._explained():
            while True:
                page = await self.ask("cloudformation", "list_stack_resources", StackName=self.name, **more)
                for one in page["StackResourceSummaries"]:
                    found[one["LogicalResourceId"]] = one["ResourceType"], one.get("PhysicalResourceId", "")
                if not page.get("NextToken"):
                    return found
                more = {"NextToken": page["NextToken"]}

    async def ask(self, service: str, operation: str, **request: Any) -> dict[str, Any]:
        """An operation of an AWS service, in the stack's account and region.

        Raises:
            ClientError: AWS refuses.
        """
        clients = self._session.clients(service)
        try:
            answer: dict[str, Any] = await getattr(await clients.get(), operation)(**request)
            if hasattr(answer.get("Payload"), "read"):  # a function's answer is read while there is a client
                answer["Payload"] = await answer["Payload"].read()
            return answer
        finally:
            await clients.aclose()

    async def output(self, name: str) -> str:
        """One output of the stack.

        Raises:
            ConfigError: as `outputs`; or it has no such output.
        """
        found = await self.outputs()
        if name not in found:
            raise ConfigError(
                f"{self} has no output {name}: it is not of PromptLab's template.yaml, or its deployment "
                "has not ended. Name it with --stack-name."
            )
        return found[name]

    async def token(self, *, new: bool = False) -> str:
        """The admin token. The first time it is made, or taken over from a stack of an older version.

        Args:
            new: another token takes the place of the one that is there.

        Raises:
            ConfigError: AWS cannot be asked, or there is no such stack.
        """
        from promptlab.adapters.aws.parameter_store import ParameterStore

        outputs = await self.outputs()
        name = outputs.get("AdminTokenParameter", f"/promptlab/{self.name}/admin-token")
        parameters = ParameterStore(session=self._session)
        async with self._explained():
            try:
                if not new and (token := await parameters.text(name)):
                    return token
                old = None if new else await self._older_token(outputs)
                return await parameters.put(
                    name,
                    old or secrets.token_urlsafe(32),
                    about="The token that opens PromptLab's Studio and API (promptlab cloud token).",
                    key=outputs.get("KmsKeyArn"),
                    replace=new,
                )
            finally:
                await parameters.close()

    async def _older_token(self, outputs: Mapping[str, str]) -> str | None:
        """The token that a stack of an older version keeps in a secret, which the update deletes."""
        if "AdminTokenSecretArn" not in outputs:
            return None
        async with self._secrets("") as kept:
            return await kept.text(f"{self.name}/admin-token")

    async def set_key(self, name: str, secret: Secret, *, project: str = DEFAULT_PROJECT) -> None:
        """Keep a provider key for the stack's workers, new or not, with the hosts that it may be sent to.

        Raises:
            ConfigError: AWS cannot be asked, or there is no such stack.
        """
        stack = await self.described()
        outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", ())}
        if "SecretsPrefix" not in outputs:
            await self.output("SecretsPrefix")  # which says what is wrong
        tags = {tag["Key"]: tag["Value"] for tag in stack.get("Tags", ())}
        async with self._secrets(outputs["SecretsPrefix"], project) as kept:
            await kept.put(name, secret, key=outputs.get("KmsKeyArn"), tags=tags)

    async def keys(self, *, project: str = DEFAULT_PROJECT) -> dict[str, tuple[str, ...]]:
        """The hosts of each provider key, by its name, sorted; no value is read.

        Raises:
            ConfigError: as `set_key`.
        """
        async with self._secrets(await self.output("SecretsPrefix"), project) as kept:
            return await kept.hosts()

    async def delete_key(self, name: str, *, project: str = DEFAULT_PROJECT) -> bool:
        """Remove a provider key at once and for good; False when there is none.

        Raises:
            ConfigError: as `set_key`.
        """
        async with self._secrets(await self.output("SecretsPrefix"), project) as kept:
            if name not in await kept.names():
                return False
            await kept.delete(name)
        return True

    @asynccontextmanager
    async def _secrets(
        self, prefix: str, project: str = DEFAULT_PROJECT
    ) -> AsyncIterator[SecretsManagerSecrets]:
        from promptlab.adapters.aws.secrets_manager import SecretsManagerSecrets

        kept = SecretsManagerSecrets(prefix, session=self._session)
        async with self._explained():
            try:
                # One beside the default project has its keys under the same prefix, in a folder of its own.
                yield kept if checked_project(project) == DEFAULT_PROJECT else kept.for_project(project)
            finally:
                await kept.close()

    @asynccontextmanager
    async def _explained(self) -> AsyncIterator[None]:
        """AWS's refusals, as messages that say what to do."""
        try:
            yield
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in ("botocore", "aiobotocore"):
                raise
            raise ConfigError(self._meaning(error)) from error

    def _meaning(self, error: Any) -> str:
        answer = getattr(error, "response", {}).get("Error", {})
        code, said = answer.get("Code", type(error).__name__), answer.get("Message") or str(error)
        if code == "ValidationError" and "does not exist" in said:
            return f"There is no {str(self).removeprefix('the ')}: {self._absent()}"
        if code in ("AccessDenied", "AccessDeniedException"):
            return f"These AWS credentials may not do this to {self}: {said}"
        if code == "ProfileNotFound":
            return f"{said}. `aws configure list-profiles` lists them."
        if not answer or code in (
            "ExpiredToken",
            "ExpiredTokenException",
            "UnrecognizedClientException",
            "InvalidClientTokenId",
        ):
            return f"AWS cannot be asked about {self}: {said.rstrip('.')}. {_LOGIN}; {self._absent()}"
        return f"AWS refused to answer about {self}: {code}: {said}"

    def _absent(self) -> str:
        return "deploy it (sam build && sam deploy --guided), or name another with --stack-name and --region."


def _sam_settings() -> dict[str, str]:
    """Read what `sam deploy --guided` noted in the working folder; nothing where it noted nothing."""
    path = Path(SAM_CONFIG)
    try:
        settings = tomllib.loads(path.read_text("utf-8")).get("default", {})
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"Cannot read {path.absolute()}: {error}. Repair it, or give --stack-name and --region elsewhere."
        ) from error
    parts = [settings.get(command, {}).get("parameters", {}) for command in ("global", "deploy")]
    return {name: str(part[name]) for part in parts for name in ("stack_name", "region") if name in part}
