"""The template with the settings that people choose, by cfn-lint."""

import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

INFRA = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(INFRA))

import costs
import stack

LINT = Path(sys.executable).parent / "cfn-lint"
CODE = {
    "CodeBucket": "code",
    "SyncApiCode": "tidewater/1/sync-api.zip",
    "SnapshotBuilderCode": "tidewater/1/snapshot-builder.zip",
    "Audience": "my-app",
}
KEYS = {"Jwks": "https://login.example.com/jwks.json"}
WORKER = {
    "WorkerImage": "registry.example.com/tidewater:1",
    "DatabaseUrlSecret": "arn:aws:secretsmanager:us-east-1:123456789012:secret:database-AbCdEf",
    "SyncConfigKey": "tidewater/1/sync-config.yaml",
    "Vpc": "vpc-0123456789abcdef0",
    "WorkerSubnets": "subnet-0123456789abcdef0,subnet-0123456789abcdef1",
}
SETTINGS = {
    "the least": CODE | KEYS,
    "a scheduled worker on arm64": CODE | KEYS | WORKER | {
        "Worker": "schedule",
        "Architecture": "arm64",
        "WorkerPublicIp": "DISABLED",
        "DatabaseSecurityGroup": "sg-0123456789abcdef0",
        "GradualDeployment": "versions",
        "Release": "1",
        "Monitoring": "false",
    },
    "everything": CODE | WORKER | {
        "JwksSecret": "arn:aws:secretsmanager:us-east-1:123456789012:secret:keys-AbCdEf",
        "Issuer": "https://login.example.com/",
        "Worker": "service",
        "DatabaseAuth": "rds-iam",
        "RdsConnectArn": "arn:aws:rds-db:us-east-1:123456789012:dbuser:db-ABCDEFGH/tidewater",
        "GradualDeployment": "Canary10Percent5Minutes",
        "Release": "2",
        "ApiConcurrency": "100",
        "BuilderConcurrency": "2",
        "PointInTimeRecovery": "true",
        "ReadUnitsMax": "4000",
        "WriteUnitsMax": "4000",
        "WarmReadUnits": "20000",
        "WarmWriteUnits": "10000",
        "Cdn": "cloudfront",
        "DomainName": "sync.example.com",
        "CertificateArn": "arn:aws:acm:us-east-1:123456789012:certificate/1",
        "RequestsPerIp": "3000",
        "AlarmEmail": "on-call@example.com",
        "MonthlyBudget": "100",
        "Tracing": "Active",
        "PermissionsBoundary": "arn:aws:iam::123456789012:policy/boundary",
    },
}
REGIONS = ["us-east-1", "eu-central-1"]


class TemplateTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name) / "template.yaml"
        self.file.write_text(stack.template())

    def lint(self, *arguments: str) -> str:
        done = subprocess.run([LINT, self.file, *arguments], capture_output=True, text=True, check=False)
        return "" if done.returncode == 0 else done.stdout + done.stderr

    def test_all_branches_are_valid(self):
        self.assertEqual(self.lint("--regions", *REGIONS), "")

    def test_each_setting_is_valid_with_its_values(self):
        for name, settings in SETTINGS.items():
            with self.subTest(name):
                parameters = [f"{key}={value}" for key, value in settings.items()]
                # E2900 takes the text of a list, which CloudFormation splits, for no list, and so does W1030.
                self.assertEqual(self.lint("--ignore-checks", "E2900", "W1030", "--parameters", *parameters), "")

    def test_each_setting_names_parameters_of_the_template(self):
        known = stack.parameter_names(stack.template())
        for settings in SETTINGS.values():
            self.assertEqual([name for name in settings if name not in known], [])

    def test_alarms_are_counted_for_their_price(self):
        text = stack.template()
        conditions = re.findall(r"Type: AWS::CloudWatch::Alarm\n    Condition: (\w+)", text)
        counted = {
            "none": conditions.count("IsMonitored"),
            "service": len(conditions) - conditions.count("ScheduleIsMonitored"),
            "schedule": len(conditions) - conditions.count("ServiceIsMonitored"),
        }
        self.assertEqual(counted, costs.ALARMS)

    def test_tables_keep_their_names_whatever_the_parameters_are(self):
        text = stack.template()
        names = re.findall(r"^      TableName: (.*)$", text, re.M)
        self.assertEqual(len(names), text.count("Type: AWS::DynamoDB::Table"))
        for name in names:
            self.assertRegex(name, r"^!Sub \$\{AWS::StackName\}-[a-z-]+$")


if __name__ == "__main__":
    unittest.main()
