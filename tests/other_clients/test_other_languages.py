"""Clients in other languages, or that need them to be generated, against the shipped models."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.other_clients.conftest import Environment, run

pytestmark = pytest.mark.slow

PROGRAMS = Path(__file__).parent / "programs"
OPENAPI = str(ROOT / "docs/openapi.json")
NODE_PACKAGES = ("openapi-typescript@7.13.0", "openapi-fetch@0.17.0", "typescript@5.9.3")
needs_java = pytest.mark.skipif(not shutil.which("java"), reason="there is no Java here")


def output(*command: str | Path, cwd: Path | None = None) -> str:
    """What a program prints; it must end well."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_generated_typescript_client_makes_verifies_and_decodes_a_picture(
    shipped: Any, node_modules: Environment, tmp_path: Path
) -> None:
    modules = node_modules(*NODE_PACKAGES)
    (tmp_path / "node_modules").symlink_to(modules)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    shutil.copy(PROGRAMS / "openapi_fetch.ts", tmp_path)
    output(modules / ".bin/openapi-typescript", OPENAPI, "-o", "genserve.ts", cwd=tmp_path)
    options = "--strict --target es2022 --lib es2022,dom --module nodenext --skipLibCheck"
    output(modules / ".bin/tsc", *options.split(), "openapi_fetch.ts", cwd=tmp_path)
    printed = output("node", "openapi_fetch.js", shipped.url, cwd=tmp_path)
    assert printed == "made, verified, encoded and decoded\n"


@needs_java
def test_javas_own_client_which_offers_http_2_is_answered(shipped: Any) -> None:
    assert '"verdict":"same"' in output("java", PROGRAMS / "JdkClient.java", shipped.url)


GENERATED = """
import sys
from openapi_client import ApiClient, ApiException, Configuration, ImagesApi, Latents, LatentsApi

client = ApiClient(Configuration(host=sys.argv[1]))
images, latents = ImagesApi(client), LatentsApi(client)
png = images.generate_get(label="7", seed=9007199254740991, format="png")
assert images.verify(png).verdict == "same"
posterior = latents.encode(png, _content_type="image/png")
decoded = latents.decode(Latents(z=[posterior.items[0].mu]), format="png")
assert decoded.startswith(b"\\x89PNG"), decoded
assert images.dataset(n=3, seed=1).startswith(b"PK")
try:
    images.generate_get(label="12")
except ApiException as error:
    assert error.data.detail == "label is '12'; mnist-cgan-v7 knows 0 to 9", error
print("made, verified, encoded and decoded")
"""


@needs_java
def test_the_client_of_openapi_generator_makes_verifies_and_decodes_a_picture(
    shipped: Any, environment: Environment, tmp_path: Path
) -> None:
    packages = ("urllib3>=2.7,<3", "python_dateutil", "pydantic>=2.11", "typing-extensions")
    python = environment("openapi-generator-cli==7.26.0", *packages)
    generator = python.with_name("openapi-generator-cli")
    output(generator, "generate", "-i", OPENAPI, "-g", "python", "-o", tmp_path)
    printed = run(python, GENERATED, shipped.url, cwd=tmp_path)
    assert printed == "made, verified, encoded and decoded\n"
