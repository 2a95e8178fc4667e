"""Compares the packages with the repository: nothing here can build the image."""

import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import yaml

PACKAGING = Path(__file__).resolve().parent.parent
ROOT = PACKAGING.parent
DOCKERFILE = (PACKAGING / "Dockerfile").read_text()
UNITS = sorted((PACKAGING / "systemd").glob("*.service"))
PROGRAM = "/usr/local/bin/tidewater"


def variables_of_the_command() -> set[str]:
    sources = (ROOT / "cli" / "src").rglob("*.rs")
    return {name for file in sources for name in re.findall(r'env = "(TIDEWATER_\w+)"', file.read_text())}


def commands() -> set[str]:
    declared = re.search(r"enum Command \{(.*?)\}", (ROOT / "cli/src/command_line.rs").read_text(), re.S).group(1)
    return {name.lower() for name in re.findall(r"^    (\w+)\(", declared, re.M)}


class DockerfileTest(unittest.TestCase):
    def test_it_builds_with_the_compiler_of_the_project(self):
        channel = re.search(r'channel = "(\d+\.\d+)', (ROOT / "rust-toolchain.toml").read_text()).group(1)
        self.assertIn(f"FROM rust:{channel}-bookworm AS build", DOCKERFILE)

    def test_the_profile_and_the_package_exist(self):
        profile, package = re.search(r"--profile (\S+) -p (\S+)", DOCKERFILE).groups()
        self.assertIn(f"[profile.{profile}]", (ROOT / "Cargo.toml").read_text())
        self.assertIn(f'name = "{package}"', (ROOT / "cli/Cargo.toml").read_text())
        self.assertIn(f"target/{profile}/{package} /out{PROGRAM}", DOCKERFILE)

    def test_the_entry_point_is_what_was_installed(self):
        self.assertIn(f'ENTRYPOINT ["{PROGRAM}"]', DOCKERFILE)
        self.assertIn("COPY --from=build /out/ /", DOCKERFILE)

    def test_the_templates_worker_fits_the_image(self):
        worker = (ROOT / "infra/template/40-worker.yaml").read_text()
        self.assertIn(f"[CMD, {PROGRAM}, probe,", worker)
        path = re.search(r"ContainerPath: (\S+) ", worker).group(1)
        self.assertIn(f'"{path}"', re.search(r"^VOLUME (.*)$", DOCKERFILE, re.M).group(1))

    def test_variables_exist(self):
        for name in re.findall(r"TIDEWATER_\w+", DOCKERFILE):
            self.assertIn(name, variables_of_the_command())


class ComposeTest(unittest.TestCase):
    def setUp(self):
        self.services = yaml.safe_load((PACKAGING / "compose.yaml").read_text())["services"]

    def test_files_exist(self):
        build = self.services["tidewater"]["build"]
        self.assertEqual((PACKAGING / build["context"]).resolve(), ROOT)
        self.assertTrue((ROOT / build["dockerfile"]).is_file())
        for service in self.services.values():
            for volume in service["volumes"]:
                source = volume.split(":")[0]
                if source.startswith("."):
                    self.assertTrue((PACKAGING / source).is_file(), source)

    def test_commands_and_variables_exist(self):
        tidewater = self.services["tidewater"]
        self.assertIn(tidewater["command"][0], commands())
        self.assertEqual(tidewater["healthcheck"]["test"][:3], ["CMD", PROGRAM, "probe"])
        self.assertIn("probe", commands())
        for name in tidewater["environment"]:
            self.assertIn(name, variables_of_the_command())

    def test_the_example_is_that_of_the_guide(self):
        guide = (ROOT / "docs/getting-started.md").read_text().replace("choose-one", "development")
        sql = (PACKAGING / "example/tables.sql").read_text()
        statements = [line for line in sql.splitlines() if line and not line.startswith("--")]
        for line in [*statements, *(PACKAGING / "example/sync-config.yaml").read_text().splitlines()]:
            self.assertIn(line, guide)


class SystemdTest(unittest.TestCase):
    def test_commands_and_variables_exist(self):
        self.assertEqual(len(UNITS), 2)
        for unit in UNITS:
            text = unit.read_text()
            command = re.search(rf"^ExecStart={PROGRAM} (\w+)", text, re.M).group(1)
            self.assertIn(command, commands())
            for name in re.findall(r"TIDEWATER_\w+", text):
                self.assertIn(name, variables_of_the_command(), unit.name)

    @unittest.skipUnless(shutil.which("systemd-analyze"), "there is no systemd here")
    def test_systemd_accepts_the_units(self):
        for unit in UNITS:
            with tempfile.TemporaryDirectory() as folder:
                # It wants the program to exist.
                copy = Path(folder) / unit.name
                copy.write_text(unit.read_text().replace(PROGRAM, "/bin/true"))
                done = subprocess.run(
                    ["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False
                )
                self.assertEqual((done.returncode, done.stderr), (0, ""), unit.name)


class ReleaseTest(unittest.TestCase):
    def test_what_it_packs_exists(self):
        script = (PACKAGING / "release").read_text()
        for line in re.findall(r"^ *cp (?:-R )?(.*?)(?: \\)?$", script, re.M):
            for source in line.split():
                if not source.startswith('"'):
                    self.assertTrue(list(ROOT.glob(source)), source)

    def test_bash_accepts_it(self):
        subprocess.run(["bash", "-n", PACKAGING / "release"], check=True)


if __name__ == "__main__":
    unittest.main()
