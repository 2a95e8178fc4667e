"""What infra/deploy refuses before it deploys anything, and what it packs."""

import argparse
import io
import sys
import tempfile
import unittest
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import costs
import deploy
import stack


class JwksTest(unittest.TestCase):
    def test_the_text_of_a_set_and_urls_are_accepted(self):
        for value in (
            '{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}',
            ' \n{"keys": [{"kty": "RSA"}, {"kty": "EC"}]}\n',
            "https://login.example.com/jwks.json",
            "https://login.example.com/jwks.json, http://localhost:8080/keys",
        ):
            self.assertIsNone(stack.jwks_problem(value), value)

    def test_what_no_function_could_use_is_refused(self):
        for value, problem in (
            ("", "is empty"),
            (" \n", "is empty"),
            ("jwks.json", "neither a URL nor JSON"),
            ("https://", "neither a URL nor JSON"),
            ('{"keys": [', "not valid JSON"),
            ("{}", 'no "keys"'),
            ('{"keys": []}', 'no "keys"'),
            ('{"keys": "secret"}', 'no "keys"'),
            ('{"keys": [{"k": "secret"}]}', 'without "kty"'),
        ):
            found = stack.jwks_problem(value)
            self.assertIn(problem, found or "", value)
            self.assertNotIn("secret", found)


class SettingsTest(unittest.TestCase):
    def check(self, given: dict, former: dict | None = None, status: str = "CREATE_COMPLETE", config: str = ""):
        options = argparse.Namespace(stack="app", config=Path(config) if config else None)
        found = {"StackStatus": status} if former is not None else None
        try:
            deploy.check(options, found, given, former or {})
        except stack.Failure as failure:
            return str(failure)
        return None

    def test_a_new_stack_needs_keys_and_an_audience(self):
        self.assertEqual(self.check({}), "the stack 'app' needs Audience, Jwks (or JwksSecret)")
        self.assertIsNone(self.check({"Audience": "a", "JwksSecret": "arn"}))

    def test_an_existing_stack_keeps_what_is_not_given(self):
        self.assertIsNone(self.check({}, former={"Audience": "a", "Jwks": "****"}))

    def test_a_worker_needs_all_that_it_runs_with(self):
        given = {"Audience": "a", "Jwks": "https://a/k", "Worker": "service", "WorkerImage": "i"}
        self.assertEqual(
            self.check(given),
            "the stack 'app' needs DatabaseUrlSecret, Vpc, WorkerSubnets, a sync config (--config)",
        )
        complete = given | {"DatabaseUrlSecret": "s", "Vpc": "v", "WorkerSubnets": "n"}
        self.assertIsNone(self.check(complete, config=__file__))
        self.assertIn("there is no sync config", self.check(complete, config="/missing.yaml"))

    def test_a_stack_that_cannot_be_updated_is_named(self):
        former = {"Audience": "a", "Jwks": "****"}
        self.assertIn("ROLLBACK_COMPLETE", self.check({}, former, status="ROLLBACK_COMPLETE"))

    def test_an_unknown_parameter_is_refused(self):
        with self.assertRaisesRegex(stack.Failure, "no parameter TablePrefix"):
            stack.parsed_parameters(["TablePrefix=x"])
        self.assertEqual(stack.parsed_parameters(["Hold=5s"]), {"Hold": "5s"})


class PackageTest(unittest.TestCase):
    def test_the_same_function_is_the_same_package_and_can_be_run(self):
        with tempfile.TemporaryDirectory() as folder:
            bootstrap = Path(folder) / "bootstrap"
            bootstrap.write_bytes(b"program")
            first = stack.package(Path(folder))
            bootstrap.touch()
            self.assertEqual(stack.package(Path(folder)), first)
            entry = zipfile.ZipFile(io.BytesIO(first)).getinfo("bootstrap")
            self.assertEqual(entry.external_attr >> 16 & 0o777, 0o755)

    def test_a_missing_function_says_how_to_build_it(self):
        with tempfile.TemporaryDirectory() as folder, self.assertRaisesRegex(stack.Failure, "infra/build"):
            stack.package(Path(folder))


class CostsTest(unittest.TestCase):
    def test_a_service_costs_its_task_address_alarms_and_secret(self):
        parts = costs.fixed({"Worker": "service", "Architecture": "arm64", "WorkerCpu": "256", "WorkerMemory": "512"})
        # 730 h x (0.25 x 0.03238 + 0.5 x 0.00356) and 730 h x 0.005.
        self.assertAlmostEqual(parts["worker"], 7.21, places=2)
        self.assertAlmostEqual(parts["public address"], 3.65, places=2)
        self.assertIn("secret", parts)

    def test_functions_alone_cost_alarms_and_an_idle_store(self):
        self.assertEqual(set(costs.fixed({})), {"idle DynamoDB", "alarms"})
        self.assertEqual(set(costs.fixed({"Monitoring": "false"})), {"idle DynamoDB"})


if __name__ == "__main__":
    unittest.main()
