"""Deploys the template to LocalStack, by the code that deploys it to AWS."""

import argparse
import json
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "infra"))

import deploy
import stack as stacks
from stack import Failure

CODE_BUCKET = "tidewater-code"
# Tables are to be deleted with the stack, and nobody watches a dashboard.
DEFAULTS = {"Protect": "false", "Monitoring": "false"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="localstack/deploy",
        description="Deploys the template to the LocalStack that AWS_ENDPOINT_URL names, and prints one JSON object: the "
        "stack's outputs, and UrlHere, the same endpoint as Url for programs whose resolver does not know names under "
        ".localhost. A new stack needs Jwks and Audience; an existing one keeps what is not given.",
    )
    deploy.add_arguments(parser)
    parser.add_argument("--destroy", action="store_true", help="delete the stack instead, with its data")
    return parser.parse_args()


def check_mode(stack: str, given: dict[str, str]) -> None:
    found = stacks.existing(boto3.client("cloudformation"), stack)
    mode = stacks.former_parameters(found).get("InvokeMode") if found else None
    if mode and given.get("InvokeMode", mode) != mode:
        # It deletes the function's URL and makes none.
        raise Failure("LocalStack cannot change InvokeMode of an existing stack: choose another name with --stack")


def url_here(url: str, endpoint: str) -> str:
    return f"{endpoint}/_host/{urlsplit(url).hostname}"


def main() -> None:
    options = arguments()
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    # Never by mistake an account that costs money.
    if urlsplit(endpoint).hostname not in ("127.0.0.1", "localhost"):
        raise Failure(
            "AWS_ENDPOINT_URL does not name this machine: is localstack/start running, and what it printed in the environment?"
        )
    if options.destroy:
        import destroy

        destroy.destroy(options.stack, pause=0.25)
        return
    given = stacks.parsed_parameters(options.parameters)
    check_mode(options.stack, given)
    if stacks.existing(boto3.client("cloudformation"), options.stack) is None:
        given = DEFAULTS | given
    outputs = deploy.deploy(options, CODE_BUCKET, given, pause=0.25)
    print(json.dumps(outputs | {"UrlHere": url_here(outputs["Url"], endpoint)}))


if __name__ == "__main__":
    try:
        main()
    except (Failure, BotoCoreError, ClientError) as error:
        sys.exit(f"localstack/deploy: {error}")
