#!/usr/bin/env bash
# Builds the image, runs it as it is meant to be run, and asks for a seven.
#
# Takes docker where its engine answers, else podman, which builds with buildah; skips where there
# is neither. The image stays, so that the next build finds its layers.
set -euo pipefail
cd "$(dirname "$0")/.."

if docker version >/dev/null 2>&1; then
  engine=docker
elif command -v podman >/dev/null; then
  engine=podman
else
  echo "image-test: skipped: no Docker engine answers and podman is not installed"
  exit 0
fi
image=localhost/genserve:test
name=genserve-test-$$
scratch=$(mktemp -d)

cleanup() {
  status=$?
  [ "$status" = 0 ] || "$engine" logs "$name" 2>&1 | tail -n 40 || true
  "$engine" rm -f "$name" >/dev/null 2>&1 || true
  rm -rf "$scratch"
}
trap cleanup EXIT

# The base by its digest, as a release has it.
base=python:3.11-slim
"$engine" image inspect "$base" >/dev/null 2>&1 || "$engine" pull --quiet "$base" >/dev/null || {
  echo "image-test: $base cannot be had; tests/image_base.sh makes a stand-in for podman" >&2
  exit 1
}
base=$("$engine" image inspect --format '{{index .RepoDigests 0}}' "$base")
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' app/__init__.py)
revision=$(git rev-parse HEAD)
build=(--build-arg "BASE=$base" --build-arg "VERSION=$version" --build-arg "REVISION=$revision")
[ -z "${TORCH:-}" ] || build+=(--build-arg "TORCH=$TORCH")
[ -z "${PIP_EXTRA_INDEX_URL:-}" ] || build+=(--build-arg PIP_EXTRA_INDEX_URL)
if [ "$engine" = podman ]; then
  build+=(--format docker)  # an OCI image has no HEALTHCHECK
  build+=(--network host)
  # Files of this machine that the build needs; docker cannot mount them into a build.
  if [ -d "${PIP_FIND_LINKS:-}" ]; then
    build+=(--build-arg PIP_FIND_LINKS --volume "$PIP_FIND_LINKS:$PIP_FIND_LINKS:ro")
  fi
  if [ -f "${SSL_CERT_FILE:-}" ]; then
    build+=(--volume "$SSL_CERT_FILE:/etc/ssl/certs/ca-certificates.crt:ro")
  fi
  # Without systemd (inside a container, on a CI machine) podman's defaults do not work.
  if [ ! -d /run/systemd/system ] && [ -z "${CONTAINERS_CONF:-}" ]; then
    cat >"$scratch/containers.conf" <<'TOML'
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
TOML
    export CONTAINERS_CONF="$scratch/containers.conf" BUILDAH_ISOLATION=chroot
  fi
fi

echo "image-test: building with $engine"
"$engine" build "${build[@]}" --tag "$image" .
label() {
  "$engine" image inspect --format "{{index .Config.Labels \"org.opencontainers.image.$1\"}}" "$image"
}
for expected in "version=$version" "revision=$revision" "base.name=$base" licenses=Apache-2.0; do
  [ "$(label "${expected%%=*}")" = "${expected#*=}" ] || {
    echo "image-test: label ${expected%%=*} is '$(label "${expected%%=*}")'" >&2
    exit 1
  }
done
echo "image-test: labels of version $version, on $base"

# The limits of docker-compose.yml.
"$engine" run --detach --name "$name" --publish 127.0.0.1::8410 --env GENSERVE_PORT=8410 \
  --memory 1g --cpus 2 --env GENSERVE_WORKERS=2 \
  --read-only --cap-drop ALL --security-opt no-new-privileges "$image" >/dev/null
SECONDS=0

# podman has no timer without systemd, so its check is called; docker calls it itself.
healthy() {
  if [ "$engine" = podman ]; then
    podman healthcheck run "$name" >/dev/null 2>&1
  else
    [ "$(docker inspect --format '{{.State.Health.Status}}' "$name")" = healthy ]
  fi
}
until healthy; do
  if [ "$SECONDS" -gt 60 ] || [ "$("$engine" inspect --format '{{.State.Running}}' "$name")" != true ]
  then
    echo "image-test: ended, or not healthy within a minute; its log:" >&2
    exit 1
  fi
  sleep 1
done
echo "image-test: healthy"

python3 - "$("$engine" port "$name" 8410/tcp)" <<'PYTHON'
import struct, sys, urllib.request

url = f"http://{sys.argv[1].split()[0]}/generate?label=7"
png = urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=30).read()
assert png.startswith(b"\x89PNG\r\n\x1a\n"), png[:200]
assert struct.unpack(">II", png[16:24]) == (28, 28), png[16:24]
PYTHON
echo "image-test: a seven of 28x28 pixels"

"$engine" exec --interactive --env "TORCH=${TORCH:-none}" "$name" python - <<'PYTHON'
import os
from importlib.util import find_spec
from pathlib import Path

unwanted = ["torchvision", "onnx", "pytest"] + ["torch"] * (os.environ["TORCH"] == "none")
for module in unwanted:
    assert find_spec(module) is None, f"{module} is in the image"
assert not Path("training/train_gan.py").exists(), "the training loops are in the image"

service = dict(line.split(":", 1) for line in Path("/proc/1/status").read_text().splitlines())
assert service["Uid"].split() == ["10001"] * 4, f"uids{service['Uid']}"
assert int(service["CapEff"], 16) == 0, f"capabilities{service['CapEff']}"
try:
    Path("/srv/written").touch()
except OSError:
    pass
else:
    raise AssertionError("/srv can be written")
PYTHON
echo "image-test: only what serving needs, uid 10001, no capabilities, nothing to write to"

"$engine" exec --interactive "$name" python - "$version" <<'PYTHON'
import importlib.metadata, json, sys
from pathlib import Path

sbom = json.loads(Path("sbom.cdx.json").read_text())
assert sbom["bomFormat"] == "CycloneDX", sbom["bomFormat"]
listed = {part["name"].lower().replace("_", "-"): part["version"] for part in sbom["components"]}
installed = {
    each.metadata["Name"].lower().replace("_", "-"): each.version
    for each in importlib.metadata.distributions()
}
assert listed == installed, sorted(listed.items() ^ installed.items())
assert "onnxruntime" in listed
assert "opentelemetry-sdk" in listed  # GENSERVE_TRACES=otlp needs no other image
from app import __version__

assert __version__ == sys.argv[1], __version__
PYTHON
echo "image-test: the bill of materials lists what is installed"

# The picture that takes most memory among those that are allowed: a lossless WebP, for which 16
# bytes a pixel are reckoned, as large as the codec of a worker takes. Four at once: each is read or
# refused in time, and nothing is killed for memory.
"$engine" exec --interactive "$name" python - <<'PYTHON'
import io, json, urllib.error, urllib.request
from concurrent.futures import ThreadPoolExecutor

from PIL import Image
from app.codec.pool import job_bytes
from app.process.resources import codec_memory

url = "http://127.0.0.1:8410"
share = job_bytes(codec_memory(workers=2)) - 2**24  # of one picture, but for what is fixed
picture = Image.new("RGB", (share // 16 // 4000, 4000), "white")
picture.paste(Image.effect_noise((1000, 1000), 50), (0, 0))  # white alone expands too much
file = io.BytesIO()
picture.save(file, "WEBP", lossless=True, method=0)
size = picture.size
del picture


def workers():
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return [line for line in lines if line.startswith("process_start_time_seconds")]


def post(_):
    headers = {"content-type": "image/webp", "x-timeout-ms": "30000"}
    request = urllib.request.Request(f"{url}/encode", file.getvalue(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code if error.code in (429, 503, 504) else f"{error.code} {error.read()}"


before = workers()
assert before, "no process_start_time_seconds"
with ThreadPoolExecutor(4) as pool:
    statuses = list(pool.map(post, range(4)))
assert 200 in statuses and set(statuses) <= {200, 429, 503, 504}, statuses
assert workers() == before, "a worker was replaced"
print(f"image-test: WebPs of {size[0]} x {size[1]} pixels in 1 GiB: {sorted(statuses)}")
PYTHON

"$engine" stop -t 30 "$name" >/dev/null
status=$("$engine" inspect --format '{{.State.ExitCode}}' "$name")
[ "$status" = 0 ] || { echo "image-test: SIGTERM ended it with status $status" >&2; exit 1; }
echo "image-test: SIGTERM ended it with status 0; passed"
