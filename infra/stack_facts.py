"""Prints a deployed stack's outputs and its admin token as JSON. Runs in the environment of the SAM CLI, which brings boto3."""

from __future__ import annotations

import json
import sys

import boto3

stack = boto3.client("cloudformation").describe_stacks(StackName=sys.argv[1])["Stacks"][0]
facts = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
facts["AdminToken"] = boto3.client("secretsmanager").get_secret_value(SecretId=facts["AdminTokenSecretArn"])["SecretString"]
print(json.dumps(facts))  # noqa: T201 - read by local_cloud.py
