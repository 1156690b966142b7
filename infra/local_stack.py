"""Sets up a stack on the local AWS after its deployment; prints its outputs and its admin token as JSON.

python infra/local_stack.py STACK WORKERS

Runs in the environment of the SAM CLI, which brings boto3.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from contextlib import suppress

import boto3


def bound_the_map(state_machine: str, workers: int) -> None:
    """Let the map start that many workers at once.

    MiniStack knows MaxConcurrency and overlooks MaxConcurrencyPath: it would start up to 64 processes
    of 150 MB each. On AWS the machine is as the template has it.
    """
    client = boto3.client("stepfunctions")
    definition = json.loads(client.describe_state_machine(stateMachineArn=state_machine)["definition"])
    shards = definition["States"]["Shards"]
    shards.pop("MaxConcurrencyPath", None)
    shards["MaxConcurrency"] = workers
    client.update_state_machine(stateMachineArn=state_machine, definition=json.dumps(definition))


def lead_back(stack: str) -> None:
    """Have the pages of a user pool lead back to the Studio, whose address has a port here that the template
    does not know."""
    found = boto3.client("cloudformation").describe_stack_resources(StackName=stack)["StackResources"]
    names = {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in found}
    if "UserPoolClient" not in names:
        return
    port = os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2]
    client = boto3.client("cognito-idp")
    which = {"UserPoolId": names["UserPool"], "ClientId": names["UserPoolClient"]}
    known = client.describe_user_pool_client(**which)["UserPoolClient"]
    urls = {
        kind: [url.replace(".localhost/", f".localhost:{port}/") for url in known[kind]]
        for kind in ("CallbackURLs", "LogoutURLs")
    }
    client.update_user_pool_client(**which, **urls)


def facts(stack: str) -> dict[str, str]:
    """The stack's outputs by name, StackName and AdminToken."""
    found = boto3.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]["Outputs"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in found}
    return {**outputs, "StackName": stack, "AdminToken": admin_token(outputs["AdminTokenParameter"])}


def admin_token(name: str) -> str:
    """The token of the stack, made if need be: as `promptlab cloud token` does."""
    client = boto3.client("ssm")
    with suppress(client.exceptions.ParameterAlreadyExists):
        client.put_parameter(Name=name, Value=secrets.token_urlsafe(32), Type="SecureString")
    token: str = client.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]
    return token


if __name__ == "__main__":
    stack = facts(sys.argv[1])
    bound_the_map(stack["StateMachineArn"], int(sys.argv[2]))
    lead_back(sys.argv[1])
    print(json.dumps(stack))  # noqa: T201 - read by local_cloud.py
