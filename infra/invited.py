"""What the local AWS lacks of a deployment: AWS::Cognito::UserPoolUser, which invites AdminEmail."""

from __future__ import annotations

import json
from typing import Any

from ministack.services import cognito
from ministack.services.cloudformation import provisioners

KIND = "AWS::Cognito::UserPoolUser"


def _create(logical_id: str, properties: dict[str, Any], stack_name: str) -> tuple[str, dict[str, Any]]:
    """Invite somebody, as an admin of the pool would; give the name of the account.

    Raises:
        ValueError: the pool refuses.
    """
    del logical_id, stack_name
    status, _, body = cognito._admin_create_user(properties)
    answer = json.loads(body)
    if status >= 300:
        raise ValueError(f"{KIND}: {answer}")
    name: str = answer["User"]["Username"]
    return name, {}


def _delete(physical_id: str, properties: dict[str, Any]) -> None:
    cognito._admin_delete_user({"UserPoolId": properties["UserPoolId"], "Username": physical_id})


def provide() -> None:
    """Have CloudFormation know the kind."""
    provisioners._RESOURCE_HANDLERS[KIND] = {"create": _create, "delete": _delete}
