"""Whether the lab is in order."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from promptlab.domain.findings import Outcome
from promptlab_studio.access import Principal, TheLab, needs

router = APIRouter(tags=["doctor"])
Engineer = Annotated[Principal, needs("run")]
MOST_SECRETS = 20


class FindingOut(BaseModel):
    """What one check found."""

    check: str = Field(examples=["store"])
    outcome: Outcome
    message: str = Field(description="What is so, and what to do where that is wrong.")


class DoctorOut(BaseModel):
    """What all checks found."""

    ok: bool = Field(description="Whether nothing is wrong; warnings are not.")
    version: str
    findings: list[FindingOut]


@router.get("/doctor", summary="Whether the lab is in order", response_model=DoctorOut)
async def doctor(
    lab: TheLab,
    who: Engineer,
    secret: Annotated[
        list[str],
        Query(
            max_length=MOST_SECRETS, description="Secrets that are looked for, as api_key_secret names them."
        ),
    ] = [],  # noqa: B006 - FastAPI copies it
) -> Any:
    """Whether the store can be written and read, the sandbox holds code of users, and the account has room.
    No model is called."""
    findings = await lab.findings(secret)
    return {
        "ok": all(finding.outcome != "error" for finding in findings),
        "version": version("promptlab-serverless"),
        "findings": [finding.to_json() for finding in findings],
    }
