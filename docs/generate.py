"""Write docs/openapi.json, the tables of docs/reference and the variables of docker-compose.yml
from the code: ``make docs``.

A page of docs/reference is prose with places for tables, ``<!-- NAME -->`` to ``<!-- /NAME -->``;
the functions of ``TABLES`` write what stands between. A test holds the committed files to what
this writes, so nothing here may depend on the machine.
"""

import argparse
import dataclasses
import json
import re
import typing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from prometheus_client import Metric

from app.core.telemetry.metrics import Metrics
from app.errors import PROBLEMS
from app.main import create_app
from app.oip.signature import DTYPES
from app.settings import PREFIX, Settings
from bench.aims import replaced
from genserve.cli.parser import build_parser
from training.cli.arguments import parser_for
from training.data.sources import default_data_root
from training.networks import configs, files, header
from training.networks.configs import GanConfig, VaeConfig
from training.networks.graph import config as graph_config
from training.networks.graph.onnx_file import IMPORTED_OPERATORS, OPERATORS

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs/reference"
OPENAPI = "docs/openapi.json"
COMPOSE = "docker-compose.yml"
IN_THE_IMAGE = ("host", "models_dir")


def table(heads: str, rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table; ``heads`` is its first line without the outer bars."""
    lines = [f"| {heads} |", "|" + " --- |" * (heads.count("|") + 1)]
    for row in rows:
        cells = (" ".join(str(cell).split()).replace("|", "\\|") for cell in row)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def code(value: object) -> str:
    """A value as code; nothing for None."""
    return "" if value is None else f"`{value}`"


# The OpenAPI document


def openapi() -> dict[str, Any]:
    """The document of a service with default settings. It names limits and no models, so it is the
    same everywhere."""
    return create_app(Settings()).openapi()


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of every operation."""
    for path, methods in openapi()["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _shape(schema: dict[str, Any]) -> str:
    """The values that a parameter takes."""
    if "enum" in schema:
        return ", ".join(code(value) for value in schema["enum"])
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f"{schema['type']}, {low} to {high}"
    if low is not None:
        return f"{schema['type']}, at least {low}"
    length = schema.get("maxLength")
    return f"{schema['type']}, up to {length} characters" if length else str(schema["type"])


def _v2(path: str) -> bool:
    return path == "/v2" or path.startswith("/v2/")


def operations_table(v2: bool) -> str:
    """Every path with its methods, bodies and responses."""
    found: dict[str, list[dict[str, Any]]] = {}
    methods: dict[str, list[str]] = {}
    for method, path, operation in operations():
        if _v2(path) == v2:
            found.setdefault(path, []).append(operation)
            methods.setdefault(path, []).append(method)
    rows = []
    for path, those in found.items():
        about = those[0].get("description", "").partition("\n\n")[0]
        bodies = {m: None for o in those for m in o.get("requestBody", {}).get("content", {})}
        responses = {m: None for o in those for m in o["responses"]["200"].get("content", {})}
        rows.append(
            (
                code(path),
                ", ".join(methods[path]),
                about,
                ", ".join(map(code, bodies)),
                ", ".join(map(code, responses)),
            )
        )
    return table("Path | Methods | Does | Reads | Returns", rows)


def parameters_table(place: str) -> str:
    """Every parameter of the query, of the path or in headers, by the operations that take it."""
    takers: dict[tuple[str, str, str, str], dict[str, None]] = {}
    for _, path, operation in operations():
        for parameter in operation.get("parameters", ()):
            if parameter["in"] == place and not _v2(path):
                schema = parameter["schema"]
                key = (
                    parameter["name"],
                    _shape(schema),
                    json.dumps(schema["default"]).strip('"') if "default" in schema else "",
                    parameter.get("description", ""),
                )
                takers.setdefault(key, {})[path] = None
    rows = [
        (code(name), ", ".join(map(code, paths)), shape, code(default or None), about)
        for (name, shape, default, about), paths in sorted(takers.items())
    ]
    return table("Parameter | Operations | Values | Default | Meaning", rows)


def _resolved(spec: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """What a reference within the document names."""
    found: Any = node
    while "$ref" in found:
        place = spec
        for part in found["$ref"].removeprefix("#/").split("/"):
            place = place[part]
        found = place
    return dict(found)


def response_headers() -> str:
    """Every header of a response, by the statuses that carry it."""
    spec = openapi()
    statuses: dict[str, set[str]] = {}
    texts: dict[str, dict[str, None]] = {}
    for _, _, operation in operations():
        for status, response in operation["responses"].items():
            for name, described in _resolved(spec, response).get("headers", {}).items():
                statuses.setdefault(name, set()).add(status)
                texts.setdefault(name, {})[described.get("description", "")] = None
    every = {status for found in statuses.values() for status in found}
    rows = [
        (
            code(name),
            "all" if found == every else ", ".join(sorted(found)),
            "<br>".join(texts[name]),
        )
        for name, found in sorted(statuses.items())
    ]
    return table("Header | Statuses | Meaning", rows)


# The service


def _range(field: Any) -> str:
    """The bounds or values of a setting."""
    if typing.get_origin(field.annotation) is typing.Literal:
        return ", ".join(map(code, typing.get_args(field.annotation)))
    bounds = {
        sign: getattr(bound, sign)
        for bound in field.metadata
        for sign in ("ge", "gt", "le")
        if hasattr(bound, sign)
    }
    if not bounds:
        return ""
    low = f"{bounds['ge']:,}" if "ge" in bounds else f"above {bounds['gt']:,}"
    return f"{low} to {bounds['le']:,}"


def settings_table() -> str:
    """Every setting of the service."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = "models_store" if name == "models_dir" else field.default
        rows.append(
            (
                code(PREFIX + name.upper()),
                "none" if default is None else code(default),
                _range(field),
                field.description,
            )
        )
    return table("Variable | Default | Values | Meaning", rows)


def errors_table() -> str:
    """Every kind of error, with an example."""
    return table(
        "Slug | Status | Title | Meaning | Example of `detail`",
        (
            (code(slug), error.status, error.title, error.about, code(error.example))
            for slug, error in PROBLEMS.items()
        ),
    )


def metrics_table() -> str:
    """Every metric, with its kind."""
    found: list[Metric] = list(Metrics().registry.collect())
    return table(
        "Name | Kind | Meaning",
        (
            (code(f"{m.name}_total" if m.type == "counter" else m.name), m.type, m.documentation)
            for m in found
        ),
    )


# Checkpoints


def network_table(config: type[Any]) -> str:
    """The fields of a network's config, with the comments of the source."""
    source = Path(str(configs.__file__)).read_text().partition(f"class {config.__name__}:")[2]
    rows = []
    for field in dataclasses.fields(config):
        line = re.search(rf"((?:    # .*\n)*)    {field.name}: .*?(?:  # (.*))?\n", source)
        assert line, field.name
        about = line[2] or " ".join(part.strip("# ") for part in line[1].splitlines())
        about = re.sub(r"[A-Z]+_[A-Z]+", lambda name: ", ".join(vars(configs)[name[0]]), about)
        rows.append((code(field.name), code(json.dumps(field.default)), about))
    return table("Field | Default | Meaning", rows)


def limits_table() -> str:
    """What a file may hold at most."""
    rows = [
        ("size of the file", f"{files.MAX_FILE_BYTES:,} bytes"),
        ("size of the header", f"{header.MAX_HEADER_BYTES:,} bytes"),
        ("characters of a label", header.MAX_LABEL_CHARACTERS),
        ("widths in a list", header.MAX_WIDTHS),
        *((f"`{name}`", limit) for name, limit in header.MAX_NUMBERS.items()),
        ("every other number", f"{header.MAX_NUMBER:,}"),
    ]
    return table("What | At most", rows)


def operators() -> str:
    """The standard operators that a graph may hold."""
    return ", ".join(map(code, sorted(OPERATORS)))


def imported_operators() -> str:
    """What a graph that was imported may hold besides."""
    return ", ".join(map(code, sorted(IMPORTED_OPERATORS - OPERATORS)))


def graph_fields() -> str:
    """The fields of what a header says of imported graphs, and of the tables in them."""
    rows = []
    source = Path(str(graph_config.__file__)).read_text()
    for config in (
        graph_config.GraphConfig,
        graph_config.Noise,
        graph_config.LabelInput,
        graph_config.Pixels,
    ):
        part = source.partition(f"class {config.__name__}:")[2]
        for field in dataclasses.fields(config):
            line = re.search(rf"((?:    # .*\n)*)    {field.name}: .*?(?:  # (.*))?\n", part)
            assert line, field.name
            about = line[2] or " ".join(one.strip("# ") for one in line[1].splitlines())
            about = re.sub(
                r"\b[A-Z]{5,}(_[A-Z]+)?\b",
                lambda name: ", ".join(map(str, vars(graph_config)[name[0]])),
                about,
            )
            where = "" if config is graph_config.GraphConfig else f"{config.__name__}: "
            rows.append((f"{where}{code(field.name)}", about))
    return table("Field | Meaning", rows)


# Command lines. argparse has no public way to its actions.


def _subcommands(parser: argparse.ArgumentParser) -> "argparse._SubParsersAction[Any]":
    (found,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return found


def commands_table(parser: argparse.ArgumentParser) -> str:
    """Every command of a program."""
    found = _subcommands(parser)._choices_actions
    return table("Command | Does", ((code(f"{parser.prog} {a.dest}"), a.help) for a in found))


def _about(action: argparse.Action, prog: str) -> str:
    """An option's help, as it is on every machine."""
    about = (action.help or "") % (vars(action) | {"prog": prog})
    about = about.replace("<", "&lt;")
    if action.dest == "threads":
        about = about.replace(f": {action.default})", ")")
    if action.dest == "data_root":
        about = about.replace(f": {default_data_root()})", ": data)")
    one_of = ", ".join(map(str, action.choices or ()))
    return f"{about} (one of {one_of})" if one_of else about


def options_table(parser: argparse.ArgumentParser) -> str:
    """Every option of a program, by the commands that take it."""
    takers: dict[tuple[str, str], list[str]] = {}
    for name, command in _subcommands(parser).choices.items():
        for action in command._actions:
            if isinstance(action, argparse._HelpAction):
                continue
            operand = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
            names = ", ".join(map(code, action.option_strings)) or code(operand)
            takers.setdefault((names, _about(action, parser.prog)), []).append(name)
    return table(
        "Option | Commands | Meaning",
        ((names, ", ".join(takers[names, about]), about) for names, about in takers),
    )


def make_targets() -> str:
    """Every target of the Makefile that people call."""
    text = (ROOT / "Makefile").read_text()
    found = re.findall(r"^([a-z-]+):.*?##\s*(.*)$", text, re.MULTILINE)
    return table("Target | Does", ((code(f"make {name}"), about) for name, about in found))


TABLES: dict[str, Callable[[], str]] = {
    "settings": settings_table,
    "operations": lambda: operations_table(v2=False),
    "query": lambda: parameters_table("query"),
    "request-headers": lambda: parameters_table("header"),
    "response-headers": response_headers,
    "errors": errors_table,
    "metrics": metrics_table,
    "v2-operations": lambda: operations_table(v2=True),
    "v2-types": lambda: ", ".join(map(code, DTYPES)),
    "gan-network": lambda: network_table(GanConfig),
    "vae-network": lambda: network_table(VaeConfig),
    "checkpoint-limits": limits_table,
    "graph-operators": operators,
    "imported-operators": imported_operators,
    "graph-fields": graph_fields,
    "training-commands": lambda: commands_table(parser_for([])),
    "training-options": lambda: options_table(parser_for([])),
    "client-commands": lambda: commands_table(build_parser()),
    "client-options": lambda: options_table(build_parser()),
    "make-targets": make_targets,
}


def compose_variables() -> list[str]:
    """What compose passes on to the service: all but where it listens and the folder of models,
    which are the image's own."""
    return [PREFIX + name.upper() for name in Settings.model_fields if name not in IN_THE_IMAGE]


def generated() -> dict[Path, str]:
    """The text of every file that is written from the code."""
    texts = {ROOT / OPENAPI: json.dumps(openapi(), indent=1, ensure_ascii=False) + "\n"}
    for page in sorted(REFERENCE.glob("*.md")):
        text = page.read_text()
        names = re.findall(r"^<!-- ([a-z0-9-]+) -->$", text, re.MULTILINE)
        texts[page] = replaced(text, {name: TABLES[name]() for name in names})
    path = ROOT / COMPOSE
    lines = "".join(f"    {name}:\n" for name in compose_variables())
    start, rest = path.read_text().split("  environment: &settings\n")
    rest = re.sub(r"^(    GENSERVE_\w+:\n)*", "", rest)
    return texts | {path: f"{start}  environment: &settings\n{lines}{rest}"}


if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text)
