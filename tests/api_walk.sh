#!/usr/bin/env bash
# Walks the whole interface with curl and looks at every answer:
#
#   bash tests/api_walk.sh http://127.0.0.1:8000
#
# It needs a service of the shipped checkpoints, open to all. It says what it walks, and ends with
# status 1 at the first answer that is not as the README has it.
set -euo pipefail
base=${1:?usage: api_walk.sh URL}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
walked=0

# ask METHOD PATH STATUS [TYPE] [CURL OPTIONS ...]: body in $tmp/body, headers in $tmp/head.
ask() {
  local method=$1 path=$2 status=$3 type=${4-} got
  shift $(($# < 4 ? $# : 4))
  local how=(--request "$method")
  [ "$method" != HEAD ] || how=(--head)
  got=$(curl --silent --show-error --max-time 60 --path-as-is "${how[@]}" "$@" \
    --output "$tmp/body" --dump-header "$tmp/head" --write-out '%{http_code} %{content_type}' \
    "$base$path")
  walked=$((walked + 1))
  echo "$method $path -> $got"
  [ "${got%% *}" = "$status" ] || fail "status ${got%% *}, expected $status"
  case "${got#* }" in "$type"*) ;; *) fail "type ${got#* }, expected $type" ;; esac
  if [ "$status" -ge 400 ] && [ "$type" = application/problem+json ] && [ "$method" != HEAD ]; then
    for field in type title status detail request_id; do has "\"$field\""; done
  fi
}
fail() {
  echo "api_walk: $1" >&2
  cat "$tmp/head" >&2
  head -c 2000 "$tmp/body" >&2 || true
  exit 1
}
has() { grep -q -F -- "$1" "$tmp/body" || fail "the body has no $1"; }
header() { tr -d '\r' <"$tmp/head" | sed -n "s/^$1: //Ip" | tail -n 1; }
told() { [ -n "$(header "$1")" ] || fail "there is no header $1"; }
begins() { [ "$(head -c "${#1}" "$tmp/body" | tr -d '\0')" = "$1" ] || fail "it does not begin with $1"; }
keep() { cp "$tmp/body" "$tmp/$1"; }
same() { cmp -s "$tmp/body" "$tmp/$1" || fail "other bytes than $1"; }
PNG=image/png JSON=application/json NPY=application/x-npy ZIP=application/zip
PROBLEM=application/problem+json

echo "== models"
ask GET /models 200 $JSON
model() { sed 's/{/\n/g' "$tmp/body" | sed -n "s/.*\"name\":\"\([^\"]*-$1-v[0-9]*\)\".*/\1/p" | head -n 1; }
cgan=$(model cgan) gan=$(model gan) vae=$(model vae)
[ -n "$cgan" ] && [ -n "$gan" ] && [ -n "$vae" ] || fail "a kind of model is missing"
ask GET /models 200 text/html --header 'Accept: text/html'
ask GET "/models/$vae" 200 $JSON
for field in digest latent_dim licence metrics reproducibility; do has "\"$field\""; done
ask GET "/models/$vae" 200 text/html --header 'Accept: text/html'
ask GET "/models/$vae/pictures/samples.png" 200 $PNG
ask GET /models/nothing 404 $PROBLEM
ask GET "/models/$vae" 406 $PROBLEM --header 'Accept: image/gif'

echo "== generate"
ask POST '/generate?label=7' 200 $PNG
begins $'\x89PNG'
for name in X-Seed X-Model X-Request-ID Server-Timing Content-Location; do told "$name"; done
[ "$(header Cache-Control)" = no-store ] || fail "an unseeded image may be kept"
link=$(header Content-Location)
keep drawn.png
ask GET "$link" 200 $PNG
same drawn.png
case "$(header Cache-Control)" in *immutable*) ;; *) fail "a pinned address is not immutable" ;; esac
ask GET '/generate?label=7&seed=42' 200 $PNG
keep seven.png
tag=$(header ETag)
ask POST '/generate?label=7&seed=42' 200 $PNG
same seven.png
ask GET '/generate?label=7&seed=42' 304 '' --header "If-None-Match: W/\"x\", $tag"
ask HEAD '/generate?label=7&seed=42' 200 $PNG
[ "$(header ETag)" = "$tag" ] || fail "HEAD has another ETag"
ask OPTIONS /generate 204
case "$(header Allow)" in *GET*HEAD*OPTIONS*POST*) ;; *) fail "Allow is $(header Allow)" ;; esac
ask GET "/generate?model=$gan&seed=1" 200 $PNG
ask GET "/generate?model=$vae&n=4&seed=1" 200 $PNG
ask GET '/generate?seeds=0-3,17' 200 $PNG
ask GET '/generate?label=7&seed=42&truncation=0' 200 $PNG
ask GET '/generate?label=7&seed=42&scale=4' 200 $PNG
keep large.png
ask GET '/generate?label=7&seed=42&metadata=none' 200 $PNG
[ "$(wc -c <"$tmp/body")" -lt "$(wc -c <"$tmp/seven.png")" ] || fail "metadata=none is no smaller"
ask GET '/generate?label=7&seed=42&metadata=mark' 200 $PNG
for layout in grid strip; do ask GET "/generate?n=4&seed=1&layout=$layout" 200 $PNG; done
ask GET '/generate?n=4&seed=1&layout=animation&frame_ms=50' 200 image/apng
for each in png:$PNG webp:image/webp npy:$NPY json:$JSON zip:$ZIP; do
  ask GET "/generate?n=3&seed=1&format=${each%%:*}" 200 "${each#*:}"
  keep "by.${each%%:*}"
  ask GET '/generate?n=3&seed=1' 200 "${each#*:}" --header "Accept: ${each#*:}"
done
cp "$tmp/by.json" "$tmp/body"
for field in image seed label permalink digest; do has "\"$field\""; done
ask POST '/generate?label=10' 422 $PROBLEM
has '0 to 9'
ask POST '/generate?lable=7' 422 $PROBLEM
has 'label'
ask POST '/generate?label=1&label=2' 422 $PROBLEM
ask POST '/generate?n=0' 422 $PROBLEM
ask POST '/generate?seed=9007199254740992' 422 $PROBLEM
ask POST "/generate?model=$gan&label=1" 422 $PROBLEM
ask POST '/generate?model=nothing' 404 $PROBLEM
ask GET '/generate' 406 $PROBLEM --header 'Accept: image/gif'
ask DELETE /generate 405 $PROBLEM
told Allow
ask POST '/generate?label=7' 422 $PROBLEM --header 'X-Timeout-Ms: soon'

echo "== encode, decode, reconstruct"
ask POST /encode 200 $JSON --data-binary "@$tmp/seven.png" --header 'Content-Type: image/png'
for field in mu logvar z; do has "\"$field\""; done
sed 's/.*"mu":\[\([^]]*\)\].*/{"z":[[\1]]}/' "$tmp/body" >"$tmp/z.json"
ask POST /encode 200 $JSON --form "file=@$tmp/seven.png;type=image/png"
printf '{"images":["%s"]}' "$(base64 -w0 "$tmp/seven.png")" >"$tmp/images.json"
ask POST /encode 200 $JSON --data-binary "@$tmp/images.json" --header "Content-Type: $JSON"
ask POST /decode 200 $PNG --data-binary "@$tmp/z.json" --header "Content-Type: $JSON"
ask POST '/decode?format=npy' 200 $NPY --data-binary "@$tmp/z.json" --header "Content-Type: $JSON"
ask POST /reconstruct 200 $PNG --form "file=@$tmp/large.png;type=image/png"
told X-Picture
for show in beside error; do
  ask POST "/reconstruct?show=$show" 200 $PNG --form "file=@$tmp/seven.png;type=image/png"
done
ask POST '/encode?invert=no&center=yes' 200 $JSON --form "file=@$tmp/large.png;type=image/png"
ask POST /encode 415 $PROBLEM --data text --header 'Content-Type: text/plain'
ask POST /encode 422 $PROBLEM --data text --header 'Content-Type: image/png'
ask POST /decode 400 $PROBLEM --data '{"z":[[' --header "Content-Type: $JSON"
ask POST /decode 422 $PROBLEM --data '{"z":[[1]]}' --header "Content-Type: $JSON"

echo "== interpolate, traverse"
ask GET '/interpolate?label=2&seeds=3,17&steps=5' 200 $PNG
for method in slerp lerp; do
  ask GET "/interpolate?label=2&seeds=3,17&method=$method&layout=strip" 200 $PNG
done
ask GET '/interpolate?label=2&seeds=3,17&layout=animation' 200 image/apng
ask GET '/interpolate?label=2&seeds=3,17&layout=animation&format=webp' 200 image/webp
ask GET '/interpolate?label=2&seeds=3,17&format=zip' 200 $ZIP
ask GET '/interpolate?label=2&seeds=3,17&format=npy' 200 $NPY
ask POST /interpolate 200 $PNG --form "file=@$tmp/seven.png;type=image/png" \
  --form "file=@$tmp/large.png;type=image/png"
ask POST "/interpolate?model=$vae" 200 $PNG --header "Content-Type: $JSON" --data \
  "{\"ends\":[{\"seed\":3},{\"image\":\"$(base64 -w0 "$tmp/seven.png")\"}]}"
ask GET '/interpolate?seeds=3' 422 $PROBLEM
ask GET "/traverse?model=$vae&seed=5&steps=5" 200 $PNG
told X-Axes
ask GET "/traverse?model=$vae&seed=5&axes=0,3&low=-2&high=2" 200 $PNG
ask POST /traverse 200 $PNG --form "file=@$tmp/seven.png;type=image/png"

echo "== dataset, verify"
ask POST '/dataset?n=100&seed=1' 200 $ZIP
begins PK
ask GET '/dataset?n=100&seed=1&label=3&format=npz' 200
begins PK
ask POST '/dataset?n=0' 422 $PROBLEM
ask POST /verify 200 $JSON --form "file=@$tmp/seven.png;type=image/png"
has '"same"'
ask POST /verify 200 $JSON --data-binary "@$tmp/large.png" --header 'Content-Type: image/png'
has '"same"'
ask GET '/generate?label=7&seed=42&metadata=none' 200 $PNG
keep bare.png
ask POST /verify 422 $PROBLEM --form "file=@$tmp/bare.png;type=image/png"

echo "== problems, operation, pages"
ask GET /problems 200 $JSON
for slug in $(grep -o '"[a-z-]*":{' "$tmp/body" | tr -d '":{'); do
  ask GET "/problems/$slug" 200 $JSON
  ask GET "/problems/$slug" 200 text/html --header 'Accept: text/html'
done
ask GET /problems/nothing 404 $PROBLEM
ask GET /livez 200 $JSON
ask GET /readyz 200 $JSON
ask GET /metrics 200 text/plain
ask GET /status 200 $JSON
ask GET / 200 text/html
told Content-Security-Policy
ask HEAD / 200 text/html
for page in docs redoc; do
  ask GET "/$page" 200 text/html
  ! grep -q -E '(src|href)="(https?:)?//' "$tmp/body" || fail "/$page asks another host"
done
ask GET /openapi.json 200 $JSON
has '"openapi":"3.1'
ask GET /nothing 404 $PROBLEM
ask GET '//generate' 404 $PROBLEM
ask GET /generate/ 404 $PROBLEM

echo "== Open Inference Protocol"
ask GET /v2 200 $JSON
ask GET /v2/health/live 200
ask GET /v2/health/ready 200
ask POST /v2/repository/index 200 $JSON --data '{}' --header "Content-Type: $JSON"
for path in "$cgan" "$cgan/versions/1"; do
  ask GET "/v2/models/$path" 200 $JSON
  ask GET "/v2/models/$path/ready" 200
  ask POST "/v2/models/$path/infer" 200 $JSON --header "Content-Type: $JSON" --data \
    '{"inputs":[{"name":"seed","shape":[1],"datatype":"INT64","data":[42]},{"name":"label","shape":[1],"datatype":"INT64","data":[7]}]}'
  has '"image"'
done
ask GET /v2/models/nothing 404 $JSON
has '"error"'
ask POST "/v2/models/$cgan/infer" 400 $JSON --data '{' --header "Content-Type: $JSON"
has '"error"'

echo "== still right"
ask GET '/generate?label=7&seed=42' 200 $PNG
same seven.png
echo "api_walk: $walked requests, all as they should be"
