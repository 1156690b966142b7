"""What the local AWS lacks of invitations: AWS::Cognito::UserPoolUser, by which the template sends the first
one, and first passwords that keep to the pool's policy.
"""

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
    """Have CloudFormation know the kind, and first passwords of 24 characters in the place of 12."""
    short = cognito._generate_temp_password
    cognito._generate_temp_password = lambda: short() + short()
    provisioners._RESOURCE_HANDLERS[KIND] = {"create": _create, "delete": _delete}
