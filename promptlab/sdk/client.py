"""The SDK: a lab for scripts and notebooks. Each sync call runs its async twin, in scripts and in running
loops alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from promptlab.deprecated import warn_old
from promptlab.domain.findings import Finding
from promptlab.lab import open_lab
from promptlab.sdk.assets import Assets
from promptlab.sdk.experiments import Experiments
from promptlab.sdk.jobs import JobLine
from promptlab.sdk.labels import Judges, Labels
from promptlab.sdk.run import Config, OnProgress, Run
from promptlab.sdk.speaking import is_quiet
from promptlab.sdk.studio import Studio
from promptlab.sync import run_sync


class PromptLab:
    """A lab: assets, experiments and the Studio over one store.

    Args:
        store: `{"type": "sqlite", "db_file": "./promptlab.db"}` ("local" means the same); without it,
            ./promptlab.db. A path means a file of SQLite. For a hosted Studio
            `{"type": "remote", "endpoint": "https://…", "api_key": …}`; PROMPTLAB_ENDPOINT and
            PROMPTLAB_API_KEY stand in for what is left out.
        quiet: say nothing on standard error: no progress, no hints. By default as the variable
            PROMPTLAB_QUIET says.

    Raises:
        ConfigError: the store is described wrongly.
    """

    def __init__(
        self,
        store: Mapping[str, Any] | str | Path | None = None,
        *,
        quiet: bool | None = None,
        tracer_config: Mapping[str, Any] | None = None,
    ) -> None:
        if tracer_config is not None:
            warn_old("PromptLab(tracer_config=…)", "PromptLab(…)")
            store = tracer_config
        quiet = is_quiet(quiet)
        self._lab = open_lab({"type": "sqlite", "db_file": store} if isinstance(store, str | Path) else store)
        if not quiet:
            self._lab.tell(JobLine())
        self.asset = Assets(self._lab)
        self.experiment = Experiments(self._lab, quiet)
        self.label = Labels(self._lab)
        self.judge = Judges(self._lab)
        self.studio = Studio(self._lab)

    async def run_experiment_async(
        self, config: Config, *, on_progress: OnProgress | None = None, quiet: bool | None = None
    ) -> Run:
        """Do as `experiment.run_async`."""
        return await self.experiment.run_async(config, on_progress=on_progress, quiet=quiet)

    async def start_studio_async(self, port: int = 8000, *, host: str = "127.0.0.1") -> None:
        """As `studio.start_async`."""
        await self.studio.start_async(port, host=host)

    def doctor(self, secrets: Sequence[str] = ()) -> list[Finding]:
        """Look whether the lab is in order: its store can be written and read; of a hosted one also its
        version beside this one, the token, whether its sandbox holds code of users, and the account's quotas.
        No model is called. What is wrong is a finding (`.outcome`: ok, warning or error), and is not raised.

        Args:
            secrets: names of providers' keys that are looked for, as `api_key_secret` names them.
        """
        return run_sync(self.doctor_async(secrets))

    async def doctor_async(self, secrets: Sequence[str] = ()) -> list[Finding]:
        """Do as `doctor`."""
        return list(await self._lab.findings(secrets))

    def close(self) -> None:
        """Close the store; also done by `with PromptLab() as pl:`."""
        run_sync(self.aclose())

    async def aclose(self) -> None:
        """Close the store; also done by `async with PromptLab() as pl:`."""
        await self._lab.close()

    def __enter__(self) -> PromptLab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> PromptLab:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<PromptLab {self._lab.where}>"
