"""Deploys Tidewater to the AWS account of the environment, or updates it."""

import argparse
import json
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError

sys.path.insert(0, str(Path(__file__).resolve().parent))

import costs
import stack as stacks
from stack import Failure


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="infra/deploy",
        description="Deploys Tidewater to the AWS account and region of the environment, or updates it: uploads the "
        "functions of infra/build and the sync config, creates or updates the stack, waits until devices can sync, "
        "and says what it costs. Prints the stack's outputs as one JSON object; everything else goes to stderr.",
        epilog="Parameters are those of infra/template (docs/aws.md). An existing stack keeps those that are not given.",
    )
    add_arguments(parser)
    parser.add_argument("--bucket", help="S3 bucket for packages; it is made if it is missing [tidewater-code-ACCOUNT-REGION]")
    parser.add_argument("--wait", type=float, default=3600, metavar="SECONDS",
                        help="how long to wait for the worker's first copy; 0 does not wait [3600]")
    return parser.parse_args()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stack", default="tidewater", help="its name, which the names of the tables begin with [tidewater]")
    parser.add_argument("--dist", type=Path, default=stacks.INFRA / "dist", help="what infra/build made [infra/dist]")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the sync config of the worker in the stack")
    parser.add_argument("parameters", nargs="*", metavar="Parameter=Value")


def deploy(options: argparse.Namespace, code_bucket: str, given: dict[str, str], pause: float) -> dict[str, str]:
    """Creates or updates the stack. Returns its outputs."""
    s3, cloudformation = boto3.client("s3"), boto3.client("cloudformation")
    found = stacks.existing(cloudformation, options.stack)
    former = stacks.former_parameters(found) if found else {}
    check(options, found, given, former)

    stacks.make_code_bucket(s3, code_bucket, s3.meta.region_name)
    code = {
        parameter: stacks.upload(s3, code_bucket, f"{name}.zip", stacks.package(options.dist / name))
        for parameter, name in stacks.FUNCTIONS.items()
    }
    text = stacks.template()
    template_key = stacks.upload(s3, code_bucket, "template.yaml", text.encode())
    chosen = {**given, **code, "CodeBucket": code_bucket}
    chosen.setdefault("Release", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    if options.config:
        chosen["SyncConfigKey"] = stacks.upload(s3, code_bucket, "sync-config.yaml", options.config.read_bytes())

    known = stacks.parameter_names(text)
    request = {
        "StackName": options.stack,
        "TemplateURL": template_url(s3, code_bucket, template_key),
        "Parameters": [{"ParameterKey": name, "ParameterValue": value} for name, value in chosen.items()]
        + [{"ParameterKey": name, "UsePreviousValue": True} for name in former if name in known and name not in chosen],
        "Capabilities": ["CAPABILITY_IAM"],
        "Tags": [{"Key": stacks.TAG, "Value": options.stack}],
        "StackPolicyBody": json.dumps(stacks.STACK_POLICY),
    }
    if found is None:
        cloudformation.create_stack(**request)
    else:
        try:
            cloudformation.update_stack(**request)
        except ClientError as error:
            if "No updates are to be performed" not in str(error):
                raise

    ended = stacks.wait(cloudformation, options.stack, pause)
    if ended is None or ended["StackStatus"] not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        status = ended["StackStatus"] if ended else "deleted"
        raise Failure(f"the stack '{options.stack}' is {status}\n{stacks.failures(cloudformation, options.stack)}")
    return stacks.outputs(ended)


def check(options: argparse.Namespace, found: dict | None, given: dict[str, str], former: dict[str, str]) -> None:
    """Refuses what would fail after minutes, or leave a deployment that cannot work."""
    if options.config and not options.config.is_file():
        raise Failure(f"there is no sync config {options.config}")
    if found and found["StackStatus"] not in stacks.UPDATABLE:
        raise Failure(
            f"the stack '{options.stack}' is {found['StackStatus']} and cannot be updated: destroy it, or choose another name with --stack"
        )
    settings = {**former, **given}
    missing = [] if settings.get("Audience") else ["Audience"]
    if not settings.get("Jwks") and not settings.get("JwksSecret"):
        missing.append("Jwks (or JwksSecret)")
    if settings.get("Worker", "none") != "none":
        missing += [name for name in ("WorkerImage", "DatabaseUrlSecret", "Vpc", "WorkerSubnets") if not settings.get(name)]
        if not options.config and not settings.get("SyncConfigKey"):
            missing.append("a sync config (--config)")
    if missing:
        raise Failure(f"the stack '{options.stack}' needs {', '.join(missing)}")


def template_url(s3, bucket: str, key: str) -> str:
    """The address of an object for CloudFormation, which reads it with the rights of the caller."""
    endpoint = s3.meta.endpoint_url
    if urlsplit(endpoint).hostname in ("127.0.0.1", "localhost"):
        return f"{endpoint}/{bucket}/{key}"
    return f"https://{bucket}.s3.{s3.meta.region_name}.amazonaws.com/{key}"


def settings_of(stack: str) -> dict[str, str]:
    return stacks.former_parameters(stacks.existing(boto3.client("cloudformation"), stack))


def main() -> None:
    options = arguments()
    given = stacks.parsed_parameters(options.parameters)
    session = boto3.session.Session()
    if not session.region_name:
        raise Failure("no AWS region is configured: set AWS_REGION")
    account = boto3.client("sts").get_caller_identity()["Account"]
    bucket = options.bucket or f"tidewater-code-{account}-{session.region_name}"
    print(f"deploying '{options.stack}' to account {account} in {session.region_name}", file=sys.stderr)

    outputs = deploy(options, bucket, given, pause=3)
    settings = settings_of(options.stack)
    if options.wait and settings.get("Worker") == "service":
        stacks.wait_until_ready(outputs["Url"], options.wait)
    print(f"endpoint: {outputs['Url']}\n{costs.summary(settings)}", file=sys.stderr)
    print(json.dumps(outputs))


if __name__ == "__main__":
    try:
        main()
    except (Failure, BotoCoreError, ClientError) as error:
        sys.exit(f"infra/deploy: {error}")
