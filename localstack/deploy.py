"""Deploys the template to LocalStack, as `sam deploy` does to AWS, and sooner."""

import argparse
import io
import json
import os
import re
import sys
import time
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import ClientError

INFRA = Path(__file__).resolve().parent.parent / "infra"
CODE_BUCKET = "tidewater-code"
SECONDS_MAX = 120
# The parameters of the template without a default.
REQUIRED = ("Jwks", "Audience")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="localstack/deploy",
        description="Deploys infra/template.yaml to the LocalStack that AWS_ENDPOINT_URL names, and "
        "prints one JSON object: the stack's outputs, and UrlHere, the same endpoint as Url for "
        "programs whose resolver does not know names under .localhost.",
    )
    parser.add_argument("--stack", default="tidewater", help="its name [tidewater]")
    parser.add_argument(
        "--dist",
        type=Path,
        default=INFRA / "dist",
        help="what infra/build made; for this machine's architecture [infra/dist]",
    )
    parser.add_argument(
        "parameters",
        nargs="*",
        metavar="Parameter=Value",
        help="at least Jwks and Audience for a new stack; an existing one keeps what is not given"
    )
    options = parser.parse_args()
    for parameter in options.parameters:
        name, equals, value = parameter.partition("=")
        if not equals:
            parser.error(f"'{parameter}' is not of the form Parameter=Value")
        if name == "Jwks" and (problem := jwks_problem(value)):
            # Never the value itself, which may be a secret.
            parser.error(f"Jwks {problem}: give the text of a JWK Set, as in \"Jwks=$(cat jwks.json)\", "
                         "or the URL of one")
    return options


def jwks_problem(value: str) -> str | None:
    """Why the functions could not use this value; LocalStack does not check a parameter's pattern."""
    if not value.strip():
        return "is empty (does the file exist?)"
    if not value.lstrip().startswith("{"):
        urls = [url.strip() for url in value.split(",")]
        if all(re.fullmatch(r"https?://[^\s/]+(/\S*)?", url) for url in urls):
            return None
        return "is neither a URL nor JSON"
    try:
        keys = json.loads(value).get("keys")
    except json.JSONDecodeError as error:
        return f"is not valid JSON ({error.msg} at character {error.pos})"
    if not isinstance(keys, list) or not keys:
        return 'has no "keys"'
    if not all(isinstance(key, dict) and isinstance(key.get("kty"), str) for key in keys):
        return 'has a key without "kty"'
    return None


def upload(s3, stack: str, folder: Path) -> str:
    """Packs a function's folder; the URL of the package."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    key = f"{stack}/{folder.name}-{time.time_ns()}.zip"
    s3.put_object(Bucket=CODE_BUCKET, Key=key, Body=packed.getvalue())
    return f"s3://{CODE_BUCKET}/{key}"


def packaged(s3, stack: str, dist: Path) -> str:
    """The template, with the functions where CloudFormation finds them."""
    s3.create_bucket(Bucket=CODE_BUCKET)

    def code_uri(found: re.Match) -> str:
        return found.group(1) + upload(s3, stack, dist / found.group(2))

    template = (INFRA / "template.yaml").read_text()
    template, count = re.subn(r"^( *CodeUri: )dist/(\S+)$", code_uri, template, flags=re.M)
    if not count:
        sys.exit("localstack/deploy: the template names no code below dist/")
    return template


def failures(cloudformation, stack: str) -> str:
    events = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
    failed = (event for event in events if event["ResourceStatus"].endswith("FAILED"))
    return "\n".join(
        f"  {event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'no reason given')}"
        for event in failed
    )


def existing(cloudformation, stack: str) -> dict | None:
    try:
        return cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise


def deploy(cloudformation, stack: str, template: str, parameters: list[str]) -> dict[str, str]:
    given = dict(parameter.split("=", 1) for parameter in parameters)
    request = {
        "StackName": stack,
        "TemplateBody": template,
        "Parameters": [{"ParameterKey": name, "ParameterValue": value} for name, value in given.items()],
        "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    }

    found = existing(cloudformation, stack)
    if found is None:
        if missing := [name for name in REQUIRED if name not in given]:
            sys.exit(f"localstack/deploy: a new stack needs {' and '.join(missing)}")
        cloudformation.create_stack(**request)
    elif found["StackStatus"] in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"):
        former = {one["ParameterKey"]: one["ParameterValue"] for one in found.get("Parameters", [])}
        mode = former.get("InvokeMode")
        if given.get("InvokeMode", mode) != mode:
            # It deletes the function's URL and makes none.
            sys.exit("localstack/deploy: LocalStack cannot change InvokeMode of an existing stack: choose "
                     "another name with --stack")
        # What is not given stays as it is.
        request["Parameters"] += [
            {"ParameterKey": name, "UsePreviousValue": True} for name in former if name not in given
        ]
        cloudformation.update_stack(**request)
    else:
        sys.exit(f"localstack/deploy: the stack '{stack}' is {found['StackStatus']} and cannot be updated: "
                 "choose another name with --stack, or restart LocalStack")

    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:
        found = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
        status = found["StackStatus"]
        if status in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            return {output["OutputKey"]: output["OutputValue"] for output in found["Outputs"]}
        if not status.endswith("_IN_PROGRESS"):
            sys.exit(f"localstack/deploy: {status}\n{failures(cloudformation, stack)}")
        time.sleep(0.25)
    sys.exit(f"localstack/deploy: the stack is not complete after {SECONDS_MAX} s")


def url_here(url: str, endpoint: str) -> str:
    return f"{endpoint}/_host/{urlsplit(url).hostname}"


def main() -> None:
    options = arguments()
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    # Never by mistake an account that costs money.
    if urlsplit(endpoint).hostname not in ("127.0.0.1", "localhost"):
        sys.exit("localstack/deploy: AWS_ENDPOINT_URL does not name this machine: is "
                 "localstack/start running, and what it printed in the environment?")
    s3, cloudformation = boto3.client("s3"), boto3.client("cloudformation")
    template = packaged(s3, options.stack, options.dist)
    outputs = deploy(cloudformation, options.stack, template, options.parameters)
    print(json.dumps(outputs | {"UrlHere": url_here(outputs["Url"], endpoint)}))


if __name__ == "__main__":
    main()
