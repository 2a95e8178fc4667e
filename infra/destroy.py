"""Removes a deployment from AWS."""

import argparse
import sys
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError

sys.path.insert(0, str(Path(__file__).resolve().parent))

import stack as stacks
from stack import Failure

# The builder or the worker may store an object while the S3 bucket is emptied.
ATTEMPTS_MAX = 3


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="infra/destroy",
        description="Deletes a stack of Tidewater with its tables and snapshots. All of it was made from PostgreSQL and can be "
        "made again; devices keep their rows and their unsent writes. The replication slot stays: drop it, or it keeps WAL.",
    )
    parser.add_argument("--stack", default="tidewater", help="its name [tidewater]")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    return parser.parse_args()


def empty(bucket_name: str) -> None:
    bucket = boto3.resource("s3").Bucket(bucket_name)
    try:
        bucket.object_versions.delete()
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchBucket":
            raise


def unprotect(cloudformation, stack: str) -> None:
    """Lets DynamoDB delete the tables."""
    dynamodb = boto3.client("dynamodb")
    for page in cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack):
        for resource in page["StackResourceSummaries"]:
            if resource["ResourceType"] == "AWS::DynamoDB::Table" and resource.get("PhysicalResourceId"):
                unprotect_table(dynamodb, resource["PhysicalResourceId"])


def unprotect_table(dynamodb, name: str) -> None:
    try:
        if dynamodb.describe_table(TableName=name)["Table"].get("DeletionProtectionEnabled"):
            dynamodb.update_table(TableName=name, DeletionProtectionEnabled=False)
            dynamodb.get_waiter("table_exists").wait(TableName=name)
    except dynamodb.exceptions.ResourceNotFoundException:
        pass


def destroy(stack: str, pause: float) -> None:
    cloudformation = boto3.client("cloudformation")
    found = stacks.existing(cloudformation, stack)
    if found is None:
        raise Failure(f"there is no stack '{stack}'")
    unprotect(cloudformation, stack)
    bucket = stacks.outputs(found).get("Bucket")
    for _ in range(ATTEMPTS_MAX):
        if bucket:
            empty(bucket)
        cloudformation.delete_stack(StackName=stack)
        if stacks.wait(cloudformation, stack, pause) is None:
            return
    raise Failure(f"the stack '{stack}' could not be deleted\n{stacks.failures(cloudformation, stack)}")


def main() -> None:
    options = arguments()
    if not options.yes:
        if not sys.stdin.isatty():
            raise Failure("nobody can be asked here: give --yes")
        if input(f"Delete the stack '{options.stack}' with all its data? Type its name: ") != options.stack:
            raise Failure("nothing was deleted")
    destroy(options.stack, pause=3)
    print(
        f"the stack '{options.stack}' is deleted. Its replication slot is not: SELECT pg_drop_replication_slot('tidewater_...'); "
        "packages and sync configs stay in the S3 bucket for packages",
        file=sys.stderr,
    )


if __name__ == "__main__":
    try:
        main()
    except (Failure, BotoCoreError, ClientError) as error:
        sys.exit(f"infra/destroy: {error}")
