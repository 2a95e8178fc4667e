"""LocalStack in the background, with the deployment in it: what up, down, status and logs do."""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
STATE = CACHE / "tidewater" / "background-localstack"
LOG = STATE / "log"
RUNNING = STATE / "running.json"
DEV_KEYS = ".tidewater/dev-jwks.json"
DEV_AUDIENCE = "tidewater-dev"
STOP_SECONDS_MAX = 30


def running() -> dict | None:
    """What `up` has noted, if that process still runs."""
    try:
        noted = json.loads(RUNNING.read_text())
        command = Path(f"/proc/{noted['pid']}/cmdline")
        if command.exists():
            # The id may belong to another process by now.
            return noted if b"supervisor.py" in command.read_bytes() or b"localstack/start" in command.read_bytes() else None
        os.kill(noted["pid"], 0)
        return None if sys.platform == "linux" else noted
    except (OSError, ValueError, KeyError):
        return None


def start(port: int) -> dict:
    STATE.mkdir(parents=True, exist_ok=True)
    with LOG.open("wb") as log:
        process = subprocess.Popen(
            [HERE / "start", "--json", "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            # Ctrl-C in this terminal is not for it.
            start_new_session=True,
        )
    noted = {"pid": process.pid}
    RUNNING.write_text(json.dumps(noted))
    # One line, when it is ready.
    line = process.stdout.readline()
    if not line:
        sys.exit(f"localstack/up: LocalStack did not start; see {LOG}")
    noted["environment"] = json.loads(line)
    RUNNING.write_text(json.dumps(noted))
    return noted


def with_keys(parameters: list[str]) -> list[str]:
    """The parameters, and for a new stack without keys those of `tidewater dev` in this folder."""
    names = {parameter.partition("=")[0] for parameter in parameters}
    keys = Path(DEV_KEYS)
    if not names & {"Jwks", "JwksSecret"} and keys.is_file():
        parameters = [*parameters, f"Jwks={keys.read_text()}"]
        if "Audience" not in names:
            parameters.append(f"Audience={DEV_AUDIENCE}")
    return parameters


def up() -> None:
    parser = argparse.ArgumentParser(
        prog="localstack/up",
        description="Starts LocalStack in the background and deploys the template to it, or updates what is deployed. Prints what "
        "to put into the environment, and the endpoint. Builds the functions if infra/dist has none.",
        epilog=f"Without Jwks, the keys of `tidewater dev` in this folder are used ({DEV_KEYS}).",
    )
    parser.add_argument("--port", type=int, default=4566, help="where it listens on 127.0.0.1 [4566]")
    parser.add_argument("--build", action="store_true", help="build the functions again")
    parser.add_argument("--no-deploy", action="store_true", help="only start LocalStack")
    parser.add_argument("parameters", nargs="*", metavar="Parameter=Value")
    options = parser.parse_args()

    noted = running() or start(options.port)
    for name, value in noted["environment"].items():
        print(f"export {name}={value}")
    if options.no_deploy:
        return
    if options.build or not (ROOT / "infra/dist/sync-api/bootstrap").exists():
        subprocess.run([ROOT / "infra/build"], check=True, stdout=sys.stderr)
    deployed = subprocess.run(
        [HERE / "deploy", *with_keys(options.parameters)],
        env=os.environ | noted["environment"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if deployed.returncode:
        sys.exit(deployed.returncode)
    outputs = json.loads(deployed.stdout)
    RUNNING.write_text(json.dumps(noted | {"outputs": outputs}))
    print(f"# endpoint: {outputs['UrlHere']}\n# bucket of the worker: {outputs['Bucket']}")


def down() -> None:
    argparse.ArgumentParser(
        prog="localstack/down", description="Stops what localstack/up has started. Its data is lost."
    ).parse_args()
    noted = running()
    if noted is None:
        print("LocalStack does not run", file=sys.stderr)
        return
    os.kill(noted["pid"], signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS_MAX
    while running() and time.monotonic() < deadline:
        # A child of this process's parent: its end cannot be waited for.
        time.sleep(0.1)
    if running():
        sys.exit(f"localstack/down: process {noted['pid']} does not end")
    RUNNING.unlink(missing_ok=True)


def readiness(url: str) -> str:
    try:
        with urllib.request.urlopen(f"{url}/probes/readiness", timeout=30):
            return "ready"
    except urllib.error.HTTPError as error:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return f"not ready: {json.loads(error.read(10_000))['reason']}"
        return f"not ready: it answers {error.code}"
    except OSError as error:
        return f"not reachable: {error}"


def status() -> None:
    argparse.ArgumentParser(
        prog="localstack/status", description="Says whether LocalStack runs, what is deployed, and whether devices can sync."
    ).parse_args()
    noted = running()
    if noted is None:
        sys.exit("LocalStack does not run: localstack/up")
    print(f"LocalStack: {noted['environment']['AWS_ENDPOINT_URL']} (process {noted['pid']})")
    if "outputs" not in noted:
        sys.exit("nothing is deployed: localstack/up")
    outputs = noted["outputs"]
    for name in ("TablePrefix", "Bucket", "UrlHere"):
        print(f"{name}: {outputs[name]}")
    print(f"sync API: {readiness(outputs['UrlHere'])}")


def logs() -> None:
    parser = argparse.ArgumentParser(
        prog="localstack/logs", description="Prints the log of LocalStack and of the functions in it."
    )
    parser.add_argument("--follow", "-f", action="store_true", help="go on until Ctrl-C")
    parser.add_argument("--lines", "-n", type=int, default=100, help="of the end [100]")
    options = parser.parse_args()
    if not LOG.exists():
        sys.exit("there is no log: localstack/up")
    command = ["tail", "-n", str(options.lines), *(["-f"] if options.follow else []), str(LOG)]
    os.execvp("tail", command)


if __name__ == "__main__":
    {"up": up, "down": down, "status": status, "logs": logs}[sys.argv.pop(1)]()
