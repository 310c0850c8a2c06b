#!/usr/bin/env bash
# Builds both wheels into dist/, installs each into an empty environment, and has the client's ask
# the service's for a seven. Needs the package index.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}
scratch=$(mktemp -d)
trap 'kill "${service:-}" 2>/dev/null || true; rm -rf "$scratch"' EXIT

"$python" -m venv "$scratch/build"
"$scratch/build/bin/pip" install -q -c constraints.txt hatchling
rm -rf dist
"$scratch/build/bin/python" -m hatchling build -t wheel -d "$PWD/dist"
(cd client && "$scratch/build/bin/python" -m hatchling build -t wheel -d ../dist)

# No constraints: what a stranger gets from the index today.
for name in service client; do "$python" -m venv "$scratch/$name"; done
"$scratch/service/bin/pip" install -q dist/genserve-*.whl
"$scratch/client/bin/pip" install -q dist/genserve_client-*.whl
echo "wheels: installed $(ls dist | tr '\n' ' ')"

cd "$scratch"
service/bin/python -m app --port 0 >ready 2>log &
service=$!
until url=$(grep -soE 'http://[0-9.:]+' ready); do
  kill -0 "$service" 2>/dev/null || { cat log >&2; exit 1; }
  sleep 0.2
done
client/bin/genserve --version
client/bin/genserve status --url "$url" >/dev/null
client/bin/genserve generate --url "$url" --label 7 --seed 42 -o seven.png
client/bin/genserve verify --url "$url" seven.png | grep -q 'seven.png: same'
said=$(client/bin/genserve serve 2>&1 || true)
[[ $said == *'the service is not installed'* ]] || { echo "$said" >&2; exit 1; }
kill "$service"
wait "$service"
echo "wheels: a seven, verified; passed"
