"""The only place that chooses adapters."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptlab.clock import SystemClock
from promptlab.domain.masking import remember_environment
from promptlab.errors import ConfigError, UnknownNameError
from promptlab.loading import end_quickly, loading
from promptlab.models.batches.registry import AS_DOCUMENTED, BatchModes
from promptlab.outbound import Outbound
from promptlab.ports import Blobs, Clock, Ledger, Quotas, Runner, Sandbox, Seals, Secrets, Tidier

if TYPE_CHECKING:
    from promptlab.adapters.http.lab import RemoteLab

DEFAULT_DB = "promptlab.db"
SANDBOX_S, SANDBOX_STUDIO_S = 910.0, 25.0
"""How long a sandbox's answer is waited for: by a worker (a function answers within 900 s, or never), and by
the Studio, whose requests end after 30 s."""
CODE_OFF = (
    "This lab takes no code of its users: AllowCode of its stack is false. Use a built-in metric and a "
    "provider's model, or run it with a local store."
)
STUDIO_PATIENCE_S = 5.0
"""How long the Studio tries again what AWS throttles, before it says so."""
NO_CODE = (
    "This lab runs no code of one's own. Use a built-in metric (docs/evaluators.md) and a provider's model, "
    "or run the experiment here with a local store."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSize:
    """The size of a deployed lab: what its runs cost depends on it."""

    max_concurrency: int = 100
    """Shards worked on at once by one run at most."""
    worker_mb: int = 512
    """Memory of Infer and Evaluate."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The adapters of one place to run."""

    ledger: Ledger
    blobs: Blobs
    secrets: Secrets
    clock: Clock
    runner: Runner
    outbound: Outbound
    """Which addresses the calls of experiments may reach."""
    where: str
    """The place where things are kept, for people."""
    seals: Seals | None = None
    """What marks code as recorded by this user; None where no code of users is run."""
    sandbox: Sandbox | None = None
    """What runs code that the lab keeps; None where it keeps none."""
    no_code: str = (
        "Code that a lab keeps runs in the sandbox of a hosted lab only. Here, name a file or a module: "
        "evaluator: path/to/file.py:Class."
    )
    """Why there is no sandbox, and what to do instead."""
    part_of: Callable[[Parts, str], Parts] | None = None
    """Makes the adapters of a project beside the default one, over the same connections; None where there
    is one project only."""
    tidier: Tidier | None = None
    """Who removes what is deleted; None: this process does."""
    batches: BatchModes = AS_DOCUMENTED
    """What speaks to the batch modes of providers."""
    quotas: Quotas | None = None
    """Who says how much of the account there is; None where there is none, or who asks may not know."""
    stack: StackSize | None = None
    """The stack that works on runs, whose processes have neither this one's objects nor its environment;
    None: this process does."""


def store_from(
    db: str | None = None,
    endpoint: str | None = None,
    api_key: str | None = None,
    project: str | None = None,
) -> dict[str, Any]:
    """The store configuration for what a command line says: a file, or a hosted Studio.

    What is not given comes from PROMPTLAB_ENDPOINT and PROMPTLAB_DB, in this order; without
    any, it is ./promptlab.db.

    Raises:
        ConfigError: a file and a Studio are given, or a file and a project.
    """
    if db is not None and endpoint is not None:
        raise ConfigError(f"--db {db} and --endpoint {endpoint}: give the one or the other")
    if db is None and (endpoint := endpoint or os.environ.get("PROMPTLAB_ENDPOINT")):
        return {"type": "remote", "endpoint": endpoint, "api_key": api_key, "project": project}
    if project is not None:
        raise ConfigError(
            f"--project {project}: a store on this machine has no projects, a hosted lab has: give its "
            "--endpoint, or set PROMPTLAB_ENDPOINT"
        )
    return {"type": "sqlite", "db_file": db or os.environ.get("PROMPTLAB_DB") or DEFAULT_DB}


def open_remote(config: Mapping[str, Any]) -> RemoteLab:
    """The client for a store configuration `{"type": "remote", "endpoint": …, "api_key": …,
    "project": …}`; PROMPTLAB_ENDPOINT, PROMPTLAB_API_KEY and PROMPTLAB_PROJECT stand in for what is left out.

    Raises:
        ConfigError: a key is unknown, or there is no endpoint.
    """
    if "jwt_token" in config:
        raise ConfigError(
            "'jwt_token' is of promptlab 0.1: a hosted Studio is deployed with a token of its own "
            "(docs/deploy.md). "
            "Write PromptLab({'type': 'remote', 'endpoint': 'https://…', 'api_key': '…'}), or set "
            "PROMPTLAB_API_KEY."
        )
    if unknown := sorted(config.keys() - {"type", "endpoint", "api_key", "project"}):
        raise ConfigError(
            f"Unknown key {unknown[0]!r} for a remote store: it takes 'endpoint', 'api_key' and 'project'."
        )
    endpoint = config.get("endpoint") or os.environ.get("PROMPTLAB_ENDPOINT")
    if not endpoint:
        raise ConfigError(
            "A remote store needs the Studio's address: {'type': 'remote', 'endpoint': 'https://…'}, or "
            "PROMPTLAB_ENDPOINT."
        )
    from promptlab.adapters.http.lab import RemoteLab

    return RemoteLab(
        endpoint,
        config.get("api_key") or os.environ.get("PROMPTLAB_API_KEY"),
        project=config.get("project") or os.environ.get("PROMPTLAB_PROJECT"),
    )


def open_parts(config: Mapping[str, Any] | None = None) -> Parts:
    """The adapters for a store configuration: `{"type": "sqlite", "db_file": …}`; "local" means the same.

    Raises:
        ConfigError: a key is unknown or missing.
    """
    with loading():
        from promptlab.adapters.local.env_secrets import EnvSecrets
        from promptlab.adapters.local.file_blobs import FileBlobs
        from promptlab.adapters.local.runner import LocalRunner
        from promptlab.adapters.local.seals import UserSeals
        from promptlab.adapters.local.sqlite_ledger import SqliteLedger

    config = dict(config or {"type": "sqlite"})
    kind = config.pop("type", "sqlite")
    if kind not in ("sqlite", "local"):
        raise UnknownNameError(
            "store type",
            str(kind),
            ["sqlite", "local", "remote"],
            "As in PromptLab({'type': 'sqlite', 'db_file': './promptlab.db'}).",
        )
    path = _store_path(config.pop("db_file", None) or DEFAULT_DB)
    if config:
        raise ConfigError(f"Unknown key {next(iter(config))!r} for a {kind} store: it takes 'db_file'.")
    remember_environment(os.environ)
    end_quickly()
    ledger, clock = SqliteLedger(path), SystemClock()
    folder = path.with_name(path.name + ".blobs")
    blobs = FileBlobs(folder)
    return Parts(
        ledger,
        blobs,
        EnvSecrets(),
        clock,
        LocalRunner(ledger, blobs, clock, folder / ".locks"),
        Outbound.from_environment(os.environ),
        str(path),
        UserSeals(),
    )


def _store_path(given: str | Path) -> Path:
    """The file of a store, by its one name: links are followed, for a lock of a run lies beside the file.

    Raises:
        ConfigError: the path cannot be a store's.
    """
    try:
        str(given).encode()
        path = Path(given).expanduser().resolve()
    except UnicodeEncodeError:
        raise ConfigError(
            f"db_file {os.fsencode(given)!r} is not UTF-8: rename the file or its folder."
        ) from None
    except FileNotFoundError:
        raise ConfigError(
            f"db_file {str(given)!r} counts from the working folder, and that was deleted: go to another, "
            "or give an absolute path."
        ) from None
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"db_file {str(given)!r} cannot be used: {error}") from error
    if path.is_dir():
        raise ConfigError(
            f"db_file {str(path)!r} is a folder: name a file in it, as in {str(path / DEFAULT_DB)!r}."
        )
    if path.exists() and not path.is_file():
        raise ConfigError(f"db_file {str(path)!r} is a pipe or a device: name a file.")
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudConfig:
    """The places where a deployed lab keeps its things, as template.yaml puts them into each
    function's environment."""

    table: str
    bucket: str
    secrets_prefix: str
    state_machine: str | None = None
    """Its ARN; only those who start runs have it."""
    tidy_function: str | None = None
    """The function that removes what was deleted; only the Studio has it."""
    admin_token: str | None = None
    """The name of the parameter that holds the admin token; only the Studio has it."""
    sandbox: str | None = None
    """The ARN of the function that runs code of users; None where a function has nothing to do with it."""
    sandbox_by_tenant: bool = False
    """Whether that has environments of its own for each project."""
    allow_code: bool = True
    """Whether the lab takes code of users."""
    jobs_function: str | None = None
    """The ARN of the function that works on jobs; only the Studio has it."""
    functions: Mapping[str, str] = field(default_factory=dict)
    """The ARNs of the functions that work on a run, by the step; only Plan has all of them."""
    stack: StackSize = StackSize()
    outbound: Outbound = field(default_factory=lambda: Outbound(hosted=True))
    """Which addresses the calls of experiments may reach."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> CloudConfig:
        """The configuration that PROMPTLAB_TABLE, PROMPTLAB_BUCKET, … hold.

        Raises:
            ConfigError: one that must be there is not.
        """
        missing = [
            name
            for name in ("PROMPTLAB_TABLE", "PROMPTLAB_BUCKET", "PROMPTLAB_SECRETS_PREFIX")
            if not environment.get(name)
        ]
        if missing:
            raise ConfigError(
                f"The environment variable {missing[0]} is not set: this function runs in a stack made by "
                "template.yaml, which sets it."
            )
        return cls(
            table=environment["PROMPTLAB_TABLE"],
            bucket=environment["PROMPTLAB_BUCKET"],
            secrets_prefix=environment["PROMPTLAB_SECRETS_PREFIX"],
            state_machine=environment.get("PROMPTLAB_STATE_MACHINE"),
            tidy_function=environment.get("PROMPTLAB_TIDY_FUNCTION"),
            admin_token=environment.get("PROMPTLAB_ADMIN_TOKEN_PARAMETER"),
            sandbox=environment.get("PROMPTLAB_SANDBOX_FUNCTION") or None,
            sandbox_by_tenant=environment.get("PROMPTLAB_SANDBOX_TENANTS") == "isolated",
            allow_code=environment.get("PROMPTLAB_ALLOW_CODE", "true") == "true",
            jobs_function=environment.get("PROMPTLAB_JOBS_FUNCTION"),
            functions={
                step: arn
                for step in ("infer", "evaluate", "summarize", "sandbox")
                if (arn := environment.get(f"PROMPTLAB_{step.upper()}_FUNCTION"))
            },
            stack=StackSize(
                max_concurrency=int(environment.get("PROMPTLAB_MAX_CONCURRENCY", "100")),
                worker_mb=int(environment.get("PROMPTLAB_WORKER_MEMORY", "512")),
            ),
            outbound=Outbound.from_environment(environment, hosted=True),
        )


def open_cloud(config: CloudConfig) -> Parts:
    """The adapters of a deployed lab, for its functions."""
    from promptlab.adapters.aws.dynamodb_ledger import DynamoDBLedger
    from promptlab.adapters.aws.lambda_quotas import LambdaQuotas
    from promptlab.adapters.aws.lambda_sandbox import LambdaSandbox
    from promptlab.adapters.aws.project_blobs import ProjectBlobs
    from promptlab.adapters.aws.s3_blobs import S3Blobs
    from promptlab.adapters.aws.secrets_manager import SecretNames, SecretsManagerSecrets
    from promptlab.adapters.aws.session import PATIENCE_S, AwsSession
    from promptlab.adapters.aws.step_functions import StepFunctionsRunner
    from promptlab.adapters.aws.tidy_function import TidyFunction

    remember_environment(os.environ)
    # The Studio alone starts runs; its requests end after 30 s, and people wait for them.
    patience_s = STUDIO_PATIENCE_S if config.admin_token else PATIENCE_S
    session, clock = AwsSession(patience_s=patience_s), SystemClock()
    blobs = S3Blobs(config.bucket, session=session)
    ledger = DynamoDBLedger(config.table, blobs, session=session, clock=clock)
    # The Studio hands runs over and calls no model.
    secrets = (SecretNames if config.admin_token else SecretsManagerSecrets)(
        config.secrets_prefix, session=session, clock=clock
    )
    sandbox = None
    if config.sandbox and config.allow_code:
        # A new one takes seconds to start, also where people wait: not the Studio's patience.
        read_s = SANDBOX_STUDIO_S if config.admin_token else SANDBOX_S
        sandbox = LambdaSandbox(
            config.sandbox, blobs, session=AwsSession(), read_s=read_s, by_tenant=config.sandbox_by_tenant
        )
    runner = StepFunctionsRunner(config.state_machine or "", ledger, clock, session=session)

    def part_of(whole: Parts, project: str) -> Parts:
        own = ProjectBlobs(blobs, project)
        records = ledger.for_project(project, own)
        # Whoever replaced the runner, as tests do, has one for all projects.
        its = runner.for_project(project, records) if whole.runner is runner else whole.runner
        own_sandbox = whole.sandbox
        if sandbox is not None and own_sandbox is sandbox:
            own_sandbox = sandbox.for_project(project, own)
        return replace(
            whole,
            ledger=records,
            blobs=own,
            secrets=secrets.for_project(project),
            runner=its,
            sandbox=sandbox.for_project(project, own)
            if whole.sandbox is sandbox and sandbox
            else whole.sandbox,
            part_of=None,
        )

    return Parts(
        ledger,
        blobs,
        secrets,
        clock,
        runner,
        config.outbound,
        f"s3://{config.bucket} and the table {config.table}",
        tidier=TidyFunction(config.tidy_function, session=session) if config.tidy_function else None,
        quotas=LambdaQuotas(session=session) if config.admin_token else None,
        stack=config.stack,
        sandbox=sandbox,
        no_code=NO_CODE if config.allow_code else CODE_OFF,
        part_of=part_of,
    )
