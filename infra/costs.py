"""The monthly price of what a deployment has whether anybody uses it or not."""

import json
from pathlib import Path

PRICES = json.loads((Path(__file__).resolve().parent / "prices.json").read_text())
# Of the template, with a worker and without. A test counts them.
ALARMS = {"service": 17, "schedule": 16, "none": 10}
# What an idle deployment reads and writes in DynamoDB in a month, as measured (BENCHMARKS.md). A scheduled worker has less.
IDLE_DOLLARS = 0.25


def fixed(settings: dict[str, str]) -> dict[str, float]:
    """Dollars a month by part, for the settings of a stack."""
    hours = PRICES["month_hours"]
    parts = {"idle DynamoDB": IDLE_DOLLARS}
    worker = settings.get("Worker", "none")
    if worker == "service":
        fargate, architecture = PRICES["fargate"], settings.get("Architecture", "x86_64")
        cpu = int(settings.get("WorkerCpu", "256")) / 1024
        memory = int(settings.get("WorkerMemory", "512")) / 1024
        parts["worker"] = hours * (
            cpu * fargate["cpu_hour"][architecture] + memory * fargate["gb_hour"][architecture]
        )
        if settings.get("WorkerPublicIp", "ENABLED") == "ENABLED":
            parts["public address"] = hours * fargate["public_address_hour"]
    if settings.get("Monitoring", "true") == "true":
        parts["alarms"] = ALARMS[worker] * PRICES["cloudwatch"]["alarm_month"]
    if worker != "none":
        parts["secret"] = PRICES["secrets"]["secret_month"]
    if settings.get("RequestsPerIp", "0") != "0":
        parts["rate limit"] = PRICES["edge"]["web_acl_month"] + PRICES["edge"]["rule_month"]
    return parts


def summary(settings: dict[str, str]) -> str:
    parts = fixed(settings)
    listed = ", ".join(f"{name} ${amount:.2f}" for name, amount in parts.items())
    return (
        f"costs about ${sum(parts.values()):.2f} a month while nobody uses it ({listed}), at the prices of "
        f"{PRICES['region']} on {PRICES['date']}"
    )
