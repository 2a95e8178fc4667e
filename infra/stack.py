"""What deploying and destroying share: packages, parameters, and waiting for CloudFormation."""

import hashlib
import io
import json
import re
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from botocore.exceptions import ClientError

INFRA = Path(__file__).resolve().parent
FUNCTIONS = {"SyncApiCode": "sync-api", "SnapshotBuilderCode": "snapshot-builder"}
# The tag of all resources, by which AWS's billing can tell deployments apart.
TAG = "tidewater-deployment"
# A first deployment with CloudFront takes CloudFormation up to half an hour.
STACK_SECONDS_MAX = 3600
UPDATABLE = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")

# An update must never replace or delete what holds data. Deleting the stack is not an update.
STACK_POLICY = {
    "Statement": [
        {"Effect": "Allow", "Action": "Update:*", "Principal": "*", "Resource": "*"},
        {
            "Effect": "Deny",
            "Action": ["Update:Replace", "Update:Delete"],
            "Principal": "*",
            "Resource": "*",
            "Condition": {
                "StringEquals": {"ResourceType": ["AWS::DynamoDB::Table", "AWS::S3::Bucket"]}
            },
        },
    ]
}


class Failure(Exception):
    """A reason to give up, for people."""


def template() -> str:
    """The files of `template/`, one after the other."""
    return "".join(file.read_text() for file in sorted((INFRA / "template").glob("*.yaml")))


def parameter_names(text: str) -> list[str]:
    """The names of the parameters that a template declares."""
    section = re.search(r"^Parameters:\n(.*?)^(?=\S)", text, re.M | re.S)
    return re.findall(r"^  (\w+):$", section.group(1), re.M) if section else []


def parsed_parameters(arguments: list[str]) -> dict[str, str]:
    given = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals:
            raise Failure(f"'{argument}' is not of the form Parameter=Value")
        if name == "Jwks" and (problem := jwks_problem(value)):
            # Never the value itself, which may be a secret.
            raise Failure(
                f'Jwks {problem}: give the text of a JWK Set, as in "Jwks=$(cat jwks.json)", or the URL of one'
            )
        given[name] = value
    known = parameter_names(template())
    if unknown := [name for name in given if name not in known]:
        raise Failure(f"the template has no parameter {' and no '.join(unknown)}")
    return given


def jwks_problem(value: str) -> str | None:
    """Why the functions could not use this value."""
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


def package(folder: Path) -> bytes:
    """Packs a function's folder. The same files always give the same bytes."""
    if not (folder / "bootstrap").is_file():
        raise Failure(f"there is no function in {folder}: run infra/build, or name another folder with --dist")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for file in sorted(folder.iterdir()):
            entry = zipfile.ZipInfo(file.name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o755 << 16
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def upload(s3, bucket: str, name: str, content: bytes) -> str:
    """Stores a file under a key that names its content. Returns the key."""
    key = f"tidewater/{hashlib.sha256(content).hexdigest()[:24]}/{name}"
    try:
        s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (403, 404):
            raise
        s3.put_object(Bucket=bucket, Key=key, Body=content)
    return key


def make_code_bucket(s3, bucket: str, region: str) -> None:
    """Makes the bucket for packages, unless it exists."""
    try:
        s3.head_bucket(Bucket=bucket)
        return
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise Failure(f"the S3 bucket '{bucket}' cannot be used: {error}") from error
    # S3 refuses to hear the name of this region, which is its default.
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    s3.create_bucket(Bucket=bucket, **place)
    s3.put_public_access_block(
        Bucket=bucket,
        PublicAccessBlockConfiguration={
            "BlockPublicAcls": True,
            "IgnorePublicAcls": True,
            "BlockPublicPolicy": True,
            "RestrictPublicBuckets": True,
        },
    )


def existing(cloudformation, stack: str) -> dict | None:
    try:
        return cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise


def former_parameters(found: dict) -> dict[str, str]:
    return {one["ParameterKey"]: one["ParameterValue"] for one in found.get("Parameters", [])}


def outputs(found: dict) -> dict[str, str]:
    return {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}


def failures(cloudformation, stack: str) -> str:
    events = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
    failed = (event for event in events if event["ResourceStatus"].endswith("FAILED"))
    return "\n".join(
        f"  {event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'no reason given')}"
        for event in failed
    )


def wait(cloudformation, stack: str, pause: float) -> dict | None:
    """The stack once nothing is in progress, or None once it is deleted."""
    deadline = time.monotonic() + STACK_SECONDS_MAX
    while time.monotonic() < deadline:
        found = existing(cloudformation, stack)
        if found is None or found["StackStatus"] == "DELETE_COMPLETE":
            return None
        if not found["StackStatus"].endswith("_IN_PROGRESS"):
            return found
        time.sleep(pause)
    raise Failure(f"the stack '{stack}' is not complete after {STACK_SECONDS_MAX} s")


def wait_until_ready(url: str, seconds: float) -> None:
    """Waits until devices can sync: until the sync API says that a checkpoint is visible and current."""
    deadline = time.monotonic() + seconds
    said = None
    while True:
        reason = readiness_problem(url)
        if reason is None:
            return
        if reason != said:
            print(f"not ready yet: {reason}", file=sys.stderr)
            said = reason
        if time.monotonic() > deadline:
            raise Failure(f"deployed, and not ready after {seconds:.0f} s: {reason}")
        time.sleep(2)


def readiness_problem(url: str) -> str | None:
    """What keeps devices from syncing."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/probes/readiness", timeout=30):
            return None
    except urllib.error.HTTPError as error:
        body = error.read(10_000)
        try:
            return str(json.loads(body)["reason"])
        except (ValueError, KeyError, TypeError):
            return f"the endpoint answers {error.code}"
    except OSError as error:
        return f"the endpoint cannot be reached ({error})"
