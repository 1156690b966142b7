"""Whether the lab is in order."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import HTMLResponse

from promptlab_studio.access import lab_of, needs
from promptlab_studio.api.doctor import MOST_SECRETS
from promptlab_studio.pages.rendering import render, router

routes = router()


@routes.get("/doctor", dependencies=[needs("run")])
async def doctor_page(request: Request) -> HTMLResponse:
    """Show what `promptlab doctor` finds: the store, the sandbox, the account; and the keys that are asked
    for."""
    asked = request.query_params.get("secrets", "")[:2_000]
    names = asked.replace(",", " ").split()[:MOST_SECRETS]
    findings = await lab_of(request).findings(names)
    wrong = sum(finding.outcome == "error" for finding in findings)
    context = {"findings": findings, "secrets": " ".join(names), "wrong": wrong}
    return render(request, "doctor.html", context)
