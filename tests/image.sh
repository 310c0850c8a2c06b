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

build=()
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
"$engine" run --detach --name "$name" --publish 127.0.0.1::8410 --env GENSERVE_PORT=8410 \
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

"$engine" stop -t 30 "$name" >/dev/null
status=$("$engine" inspect --format '{{.State.ExitCode}}' "$name")
[ "$status" = 0 ] || { echo "image-test: SIGTERM ended it with status $status" >&2; exit 1; }
echo "image-test: SIGTERM ended it with status 0; passed"
