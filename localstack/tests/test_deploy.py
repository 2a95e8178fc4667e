"""What localstack/deploy refuses before it deploys anything."""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import deploy


class JwksTest(unittest.TestCase):
    def test_the_text_of_a_set_and_urls_are_accepted(self):
        for value in (
            '{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}',
            ' \n{"keys": [{"kty": "RSA"}, {"kty": "EC"}]}\n',
            "https://login.example.com/jwks.json",
            "https://login.example.com/jwks.json, http://localhost:8080/keys",
        ):
            self.assertIsNone(deploy.jwks_problem(value), value)

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
            found = deploy.jwks_problem(value)
            self.assertIn(problem, found or "", value)
            self.assertNotIn("secret", found)


if __name__ == "__main__":
    unittest.main()
