"""A lab with prompts and datasets as large as they may be, every route of the Studio over it, and a client
that holds each answer to the bound."""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import Any

import httpx
from promptlab_studio.app import create_app

from promptlab.domain.assets import Dataset, PromptTemplate
from promptlab.domain.code import CodeBundle
from promptlab.store_lab import StoreLab
from tests.bench.real_runs import add_wide
from tests.browser import labs
from tests.work import held_to_its_bound

PATHS: dict[str, list[str]] = {
    "/": ["/", "/?charts=1"],
    "/live": ["/live?run={run}"],
    "/go": ["/go", "/go?q=a"],
    "/login": ["/login"],
    "/open": ["/open?code=x"],
    "/shared": ["/shared?key=x"],
    "/sign-in": ["/sign-in"],
    "/sign-in/back": ["/sign-in/back?code=x&state=y"],
    "/tokens": ["/tokens"],
    "/people": ["/people"],
    "/audit": ["/audit"],
    "/deletions": ["/deletions"],
    "/doctor": ["/doctor"],
    "/api/v1/me": ["/api/v1/me"],
    "/api/v1/doctor": ["/api/v1/doctor?secret=x"],
    "/api/v1/tokens": ["/api/v1/tokens"],
    "/api/v1/people": ["/api/v1/people"],
    "/api/v1/settings/admin-token": ["/api/v1/settings/admin-token"],
    "/api/v1/audit": ["/api/v1/audit"],
    "/api/v1/deletions": ["/api/v1/deletions"],
    "/api/v1/runs/{run_id}/gate": ["/api/v1/runs/{run}/gate"],
    "/api/v1/power": ["/api/v1/power?difference=0.05"],
    "/api/v1/run-labels": ["/api/v1/run-labels?name=sums"],
    "/api/v1/audit/export": ["/api/v1/audit/export"],
    "/runs/{run_id}": [
        "/runs/{run}",
        "/runs/{run}?tab=summary",
        "/runs/{run}?tab=configuration",
        "/runs/{run}?tab=sql&sql=SELECT+*+FROM+cases",
    ],
    "/runs/{run_id}/live": ["/runs/{run}/live"],
    "/runs/{run_id}/label": ["/runs/{run}/label", "/runs/{run}/label?n=5&seed=1"],
    "/runs/{run_id}/score": ["/runs/{run}/score"],
    "/drift": ["/drift?run={run}&run={other}&metric=none"],
    "/runs/{run_id}/cases.{form}": ["/runs/{run}/cases.csv", "/runs/{run}/cases.jsonl"],
    "/runs/{run_id}/cases/{key}": ["/runs/{run}/cases/1"],
    "/runs/{run_id}/cases/{key}/text": [
        "/runs/{run}/cases/1/text",
        "/runs/{run}/cases/1/text?of=input.question",
    ],
    "/runs/{run_id}/cases/{key}/media/{sha256}": [f"/runs/{{run}}/cases/1/media/{'0' * 64}"],
    "/jobs/{job_id}": [f"/jobs/{'0' * 32}"],
    "/prompts": ["/prompts"],
    "/prompt": ["/prompt?name=made-qa", "/prompt?name=long&version=1&against=0", "/prompt?name=many"],
    "/prompt/edit": ["/prompt/edit?name=long"],
    "/datasets": ["/datasets"],
    "/dataset": ["/dataset?name=wide", "/dataset?name=columns", "/dataset?name=texts"],
    "/dataset/columns": ["/dataset/columns?name=columns"],
    "/new": ["/new?dataset=columns&prompt=many&model=simulated/demo", "/new?dataset=texts&prompt=long"],
    "/playground": ["/playground?dataset=texts&prompt=long", "/playground?run={run}&run={other}"],
    "/code": ["/code", "/code?q=sco"],
    "/code/new": ["/code/new?name=scoring"],
    "/source": ["/source?name=scoring", "/source?name=scoring&version=1&against=0&file=scoring/m001.py"],
    "/compare": ["/compare?run={run}&run={other}", "/compare?run={run}&run={other}&margin=0.1,length=20"],
    "/sweeps": ["/sweeps"],
    "/sweeps/{sweep_id}": ["/sweeps/none"],
    "/slices": ["/slices?run={run}", "/slices?run={run}&run={other}&margin=0.1"],
    "/api/v1/health": ["/api/v1/health"],
    "/api/v1/openapi.json": ["/api/v1/openapi.json"],
    "/api/v1/runs": ["/api/v1/runs", "/api/v1/runs?details=true"],
    "/api/v1/runs/{run_id}": ["/api/v1/runs/{run}"],
    "/api/v1/runs/{run_id}/progress": ["/api/v1/runs/{run}/progress"],
    "/api/v1/runs/{run_id}/cases": ["/api/v1/runs/{run}/cases"],
    "/api/v1/runs/{run_id}/cases/{key}": ["/api/v1/runs/{run}/cases/0.0"],
    "/api/v1/runs/{run_id}/export": ["/api/v1/runs/{run}/export"],
    "/api/v1/compare": ["/api/v1/compare?run={run}&run={other}"],
    "/api/v1/sweeps": ["/api/v1/sweeps"],
    "/api/v1/sweeps/{sweep_id}": ["/api/v1/sweeps/none"],
    "/api/v1/slices": ["/api/v1/slices?run={run}&run={other}&column=id"],
    "/api/v1/prompts": ["/api/v1/prompts"],
    "/api/v1/prompts/{name}": ["/api/v1/prompts/long"],
    "/api/v1/prompts/{name}/versions/{version}": ["/api/v1/prompts/long/versions/latest"],
    "/api/v1/datasets": ["/api/v1/datasets"],
    "/api/v1/datasets/{name}": ["/api/v1/datasets/columns"],
    "/api/v1/datasets/{name}/versions/{version}": ["/api/v1/datasets/columns/versions/0"],
    "/api/v1/datasets/{name}/versions/{version}/rows": ["/api/v1/datasets/texts/versions/0/rows?limit=500"],
    "/api/v1/code": ["/api/v1/code"],
    "/api/v1/code/{name}": ["/api/v1/code/scoring"],
    "/api/v1/code/{name}/versions/{version}": ["/api/v1/code/scoring/versions/0"],
    "/api/v1/datasets/{name}/versions/{version}/rows/{number}": ["/api/v1/datasets/texts/versions/0/rows/1"],
    "/api/v1/code/{name}/versions/{version}/source": ["/api/v1/code/scoring/versions/0/source"],
    "/api/v1/sandbox": ["/api/v1/sandbox"],
    "/api/v1/jobs/{job_id}": [f"/api/v1/jobs/{'0' * 32}"],
    "/api/v1/jobs/{job_id}/file": [f"/api/v1/jobs/{'0' * 32}/file"],
    "/projects": ["/projects"],
    "/api/v1/projects": ["/api/v1/projects"],
    "/api/v1/projects/{name}": ["/api/v1/projects/default"],
    "/api/v1/metrics": ["/api/v1/metrics"],
    "/api/v1/runs/{run_id}/case-labels": ["/api/v1/runs/{run}/case-labels"],
    "/api/v1/runs/{run_id}/label-queue": ["/api/v1/runs/{run}/label-queue?n=5"],
    "/api/v1/runs/{run_id}/judge-check": ["/api/v1/runs/{run}/judge-check?metric=none"],
    "/api/v1/runs/{run_id}/corrected": ["/api/v1/runs/{run}/corrected"],
    "/api/v1/judge-drift": ["/api/v1/judge-drift?run={run}&run={other}&metric=none"],
    "/api/v1/models/providers": ["/api/v1/models/providers"],
}
"""What is read: the addresses that each route is asked with."""
FORMS: dict[str, str] = {
    "/session": "/session",
    "/logout": "/logout",
    "/tokens": "/tokens",
    "/tokens/revoke": "/tokens/revoke",
    "/links": "/links",
    "/people": "/people",
    "/people/remove": "/people/remove",
    "/people/go-on": "/people/go-on",
    "/people/admin-token": "/people/admin-token",
    "/runs/delete": "/runs/delete",
    "/runs/archive": "/runs/archive",
    "/prompt/delete": "/prompt/delete",
    "/projects": "/projects",
    "/projects/enter": "/projects/enter",
    "/projects/edit": "/projects/edit",
    "/projects/delete": "/projects/delete",
    "/dataset/delete": "/dataset/delete",
    "/runs/tags": "/runs/tags",
    "/runs/views": "/runs/views",
    "/runs/views/remove": "/runs/views/remove",
    "/jobs/{job_id}/cancel": f"/jobs/{'0' * 32}/cancel",
    "/jobs/{job_id}/retry": f"/jobs/{'0' * 32}/retry",
    "/runs/{run_id}/exports": "/runs/none/exports",
    "/runs/{run_id}/again": "/runs/{run}/again",
    "/runs/{run_id}/cancel": "/runs/{run}/cancel",
    "/runs/{run_id}/labels": "/runs/{run}/labels",
    "/runs/{run_id}/describe": "/runs/{run}/describe",
    "/sweeps/{sweep_id}/cancel": "/sweeps/none/cancel",
    "/sweeps/{sweep_id}/continue": "/sweeps/none/continue",
    "/runs/{run_id}/resume": "/runs/{run}/resume",
    "/runs/{run_id}/score": "/runs/{run}/score",
    "/runs/{run_id}/judge-check": "/runs/{run}/judge-check",
    "/runs/{run_id}/cases/{key}/label": "/runs/{run}/cases/1/label",
    "/runs/{run_id}/cases/{key}/correct": "/runs/{run}/cases/1/correct",
    "/prompt/placeholders": "/prompt/placeholders",
    "/prompt/edit": "/prompt/edit",
    "/prompt/label": "/prompt/label",
    "/code/new": "/code/new",
    "/source/label": "/source/label",
    "/source/delete": "/source/delete",
    "/new": "/new",
    "/playground": "/playground",
    "/playground/save": "/playground/save",
}
"""What takes forms."""
BODIES: dict[tuple[str, str], str] = {
    ("POST", "/api/v1/runs"): "/api/v1/runs",
    ("PATCH", "/api/v1/runs/{run_id}"): "/api/v1/runs/{run}",
    ("POST", "/api/v1/runs/{run_id}/cancel"): "/api/v1/runs/{run}/cancel",
    ("POST", "/api/v1/runs/{run_id}/resume"): "/api/v1/runs/{run}/resume",
    ("POST", "/api/v1/runs/{run_id}/score"): "/api/v1/runs/{run}/score",
    ("POST", "/api/v1/runs/{run_id}/sql"): "/api/v1/runs/{run}/sql",
    ("POST", "/api/v1/runs/{run_id}/gate"): "/api/v1/runs/{run}/gate",
    ("POST", "/api/v1/runs/{run_id}/case-labels"): "/api/v1/runs/{run}/case-labels",
    ("POST", "/api/v1/runs/{run_id}/case-labels/{key}/remove"): "/api/v1/runs/{run}/case-labels/1/remove",
    ("POST", "/api/v1/case-labels/remove"): "/api/v1/case-labels/remove",
    ("POST", "/api/v1/runs/{run_id}/judge-check"): "/api/v1/runs/{run}/judge-check",
    ("PUT", "/api/v1/runs/{run_id}/labels/{label}"): "/api/v1/runs/{run}/labels/l",
    ("POST", "/api/v1/sweeps"): "/api/v1/sweeps",
    ("POST", "/api/v1/prompts"): "/api/v1/prompts",
    ("PUT", "/api/v1/prompts/{name}/labels/{label}"): "/api/v1/prompts/long/labels/l",
    ("POST", "/api/v1/datasets"): "/api/v1/datasets",
    ("PUT", "/api/v1/datasets/{name}/labels/{label}"): "/api/v1/datasets/columns/labels/l",
    ("POST", "/api/v1/datasets/uploads"): "/api/v1/datasets/uploads",
    ("PUT", "/api/v1/datasets/uploads/{token}/{file_name}"): f"/api/v1/datasets/uploads/{'0' * 32}/d.csv",
    ("PUT", "/api/v1/code/{name}/labels/{label}"): "/api/v1/code/scoring/labels/l",
    ("POST", "/api/v1/code"): "/api/v1/code",
    ("POST", "/api/v1/code/uploads"): "/api/v1/code/uploads",
    ("POST", "/api/v1/code/wheels"): "/api/v1/code/wheels",
    ("POST", "/api/v1/datasets/ingests"): "/api/v1/datasets/ingests",
    ("POST", "/api/v1/runs/{run_id}/exports"): "/api/v1/runs/none/exports",
    ("POST", "/api/v1/preview"): "/api/v1/preview",
    ("POST", "/api/v1/estimate"): "/api/v1/estimate",
    ("POST", "/api/v1/projects"): "/api/v1/projects",
    ("PATCH", "/api/v1/projects/{name}"): "/api/v1/projects/default",
    ("POST", "/api/v1/tokens"): "/api/v1/tokens",
    ("POST", "/api/v1/links"): "/api/v1/links",
    ("PUT", "/api/v1/people/{email}"): "/api/v1/people/a@example.com",
    ("PUT", "/api/v1/settings/admin-token"): "/api/v1/settings/admin-token",
}
"""What takes JSON."""
WITHOUT = {
    ("POST", "/api/v1/sweeps/{sweep_id}/cancel"): "/api/v1/sweeps/none/cancel",
    ("POST", "/api/v1/sweeps/{sweep_id}/continue"): "/api/v1/sweeps/none/continue",
    ("DELETE", "/api/v1/tokens/{token_id}"): "/api/v1/tokens/none",
    ("DELETE", "/api/v1/people/{email}"): "/api/v1/people/none",
    ("POST", "/api/v1/jobs/{job_id}/cancel"): f"/api/v1/jobs/{'0' * 32}/cancel",
    ("POST", "/api/v1/jobs/{job_id}/retry"): f"/api/v1/jobs/{'0' * 32}/retry",
    ("DELETE", "/api/v1/runs/{run_id}"): "/api/v1/runs/none",
    ("DELETE", "/api/v1/runs/{run_id}/labels/{label}"): "/api/v1/runs/none/labels/l",
    ("DELETE", "/api/v1/projects/{name}"): "/api/v1/projects/none",
    ("DELETE", "/api/v1/projects/{name}/cache"): "/api/v1/projects/none/cache",
    ("DELETE", "/api/v1/prompts/{name}/versions/{version}"): "/api/v1/prompts/none/versions/1",
    ("DELETE", "/api/v1/datasets/{name}/versions/{version}"): "/api/v1/datasets/none/versions/1",
    ("DELETE", "/api/v1/code/{name}/versions/{version}"): "/api/v1/code/none/versions/1",
    ("DELETE", "/api/v1/prompts/{name}/labels/{label}"): "/api/v1/prompts/none/labels/l",
    ("DELETE", "/api/v1/datasets/{name}/labels/{label}"): "/api/v1/datasets/none/labels/l",
    ("DELETE", "/api/v1/code/{name}/labels/{label}"): "/api/v1/code/none/labels/l",
}
"""What takes neither."""


async def lab_with_large_things(folder: Path) -> tuple[StoreLab, dict[str, str]]:
    """A lab with two runs, and with prompts and datasets as large as they may be."""
    lab = labs.open_lab(folder)
    runs = await add_wide(lab, rows=12, runs=2, trials=1)
    texts = {"long": "a b\n" * 250_000, "many": "".join(f"<c{n % 2_500:04}>" for n in range(100_000))}
    for name, text in texts.items():
        await lab.assets.create(PromptTemplate(name=name, user_prompt=text))
    await lab.assets.create(PromptTemplate(name="long", user_prompt="<" * 1_000_000 + "b a\n" * 250_000))
    await lab.assets.create(
        PromptTemplate(name="jinja", user_prompt="{{" * 100_000, template_format="jinja2")
    )
    columns = {f"{'cC'[n % 2]}{n // 2:04}": f"value {n}" for n in range(2_000)}
    deep: Any = reduce(lambda inner, _: [inner], range(150), 1)
    await lab.assets.create(Dataset(name="columns", rows=[columns] * 60))
    await lab.assets.create(
        Dataset(name="texts", rows=[{"t": "<b> [x](y) " * 90_000, "d": deep, "n" * 100_000: 1}] * 3)
    )
    await lab.assets.create(
        CodeBundle(name="scoring", files={f"scoring/m{n:03}.py": "x = 1\n" * 1_100 for n in range(500)})
    )
    await lab.assets.create(
        CodeBundle(name="scoring", files={f"scoring/m{n:03}.py": "y = 2\n" * 1_100 for n in range(400)})
    )
    return lab, {"run": runs[0].run_id, "other": runs[1].run_id}


class Asked:
    """Sends requests to a Studio, and holds each to the bound."""

    def __init__(self, lab: StoreLab, ids: dict[str, str]) -> None:
        self.ids = ids
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(create_app(lab)), base_url="http://localhost", timeout=60
        )

    async def send(self, method: str, path: str, query: str = "", **request: Any) -> httpx.Response:
        answers = list[httpx.Response]()
        url = self.address(path) + (("&" if "?" in path else "?") + query if query else "")

        async def ask() -> None:
            # A fault raises here: nothing between the app and this catches it but the app.
            answers.append(await self.client.request(method, url, **request))

        await held_to_its_bound(ask)
        assert answers[0].status_code < 500, (method, url[:200], answers[0].text[:500])
        return answers[0]

    def address(self, path: str) -> str:
        return path.replace("{run}", self.ids["run"]).replace("{other}", self.ids["other"])
