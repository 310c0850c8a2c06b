"""What the two wheels contain and require."""

import re
from importlib import metadata
from pathlib import Path

import app
import genserve
from tests.conftest import ROOT
from tests.packaging.conftest import Wheels


def distribution_in(site: Path) -> metadata.Distribution:
    (only,) = metadata.distributions(path=[str(site)])
    return only


def required(distribution: metadata.Distribution) -> set[str]:
    """Names of the distributions that it requires without any extra."""
    lines = [line for line in distribution.requires or () if "extra ==" not in line]
    return {re.split(r"[^\w.-]", line)[0].lower().replace("_", "-") for line in lines}


def all_required(distribution: metadata.Distribution) -> set[str]:
    """The same with what those require in turn, as this environment has them."""
    names: set[str] = set()
    waiting = required(distribution)
    while waiting:
        name = waiting.pop()
        names.add(name)
        try:
            waiting |= required(metadata.distribution(name)) - names
        except metadata.PackageNotFoundError:  # of another platform or an older Python
            continue
    return names


def test_the_client_requires_httpx_numpy_and_pillow_and_nothing_of_the_service(
    wheels: Wheels,
) -> None:
    client = distribution_in(wheels.client)
    assert client.metadata["Name"] == "genserve-client"
    assert required(client) == {"httpx", "numpy", "pillow"}
    service = required(distribution_in(wheels.service))
    assert {"fastapi", "onnxruntime"} <= service
    assert all_required(client) & (service | {"torch", "starlette", "genserve"}) == {
        *("numpy", "pillow"),
    }


def test_the_client_s_wheel_has_its_package_and_command_alone(wheels: Wheels) -> None:
    client = distribution_in(wheels.client)
    files = {file.as_posix() for file in client.files or ()}
    assert {file.partition("/")[0] for file in files} == {
        *("genserve", f"genserve_client-{genserve.__version__}.dist-info"),
    }
    assert {"genserve/py.typed", "genserve/cli/serve.py"} <= files
    (command,) = client.entry_points
    assert (command.group, command.name) == ("console_scripts", "genserve")
    assert callable(command.load())
    assert client.version == genserve.__version__
    assert client.metadata["Description-Content-Type"] == "text/markdown"


def test_the_service_s_wheel_has_its_packages_and_models_and_no_command(wheels: Wheels) -> None:
    service = distribution_in(wheels.service)
    files = {file.as_posix() for file in service.files or ()}
    assert {file.partition("/")[0] for file in files} == {
        *("app", "training", f"genserve-{service.version}.dist-info"),
    }
    assert not list(service.entry_points)
    assert service.version == app.__version__
    for model in (ROOT / "models_store").glob("*.safetensors"):
        assert f"app/_models_store/{model.name}" in files


def test_both_wheels_carry_the_licence(wheels: Wheels) -> None:
    text = (ROOT / "LICENSE").read_text()
    for site in (wheels.client, wheels.service):
        (file,) = site.glob("*.dist-info/licenses/LICENSE")
        assert file.read_text() == text
