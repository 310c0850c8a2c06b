#!/bin/sh
# Walks the whole interface by curl, as a stranger would, and checks every answer:
#
#     sh tests/api_walk.sh http://127.0.0.1:8000
#
# Of a service with keys, GENSERVE_KEY is one. What is served has to include a conditional model
# that knows a 7 and a VAE, both of grade exact, as the shipped ones are on a CPU. Ends with status
# 1, and says what was answered, where an answer is another than it should be.
set -u
URL=${1:-http://127.0.0.1:8000}
KEY=${GENSERVE_KEY:-}
DIR=$(mktemp -d)
trap 'rm -rf "$DIR"' EXIT
head=$DIR/head body=$DIR/body
failed=0
PROBLEM=application/problem+json
NOTHING=''  # no body, so no type

# ask STATUS TYPE METHOD PATH [curl's options]: asks, and checks status and type.
ask() {
    status=$1 type=$2 method=$3 path=$4
    asked="$method $(printf %.100s "$path")"
    shift 4
    case $method in
        HEAD) set -- --head "$@" ;;
        *) set -- --request "$method" "$@" ;;
    esac
    [ -z "$KEY" ] || set -- -H "Authorization: Bearer $KEY" "$@"
    : >"$head" && : >"$body"
    got=$(curl -sS -g --path-as-is -m 120 -D "$head" -o "$body" \
        -w '%{http_code} %{content_type}' "$@" "$URL$path" 2>&1)
    case $got in
        "$status $type"*) echo "ok   $status $asked" ;;
        *) wrong "status and type are '$got'; expected: '$status $type'" ;;
    esac
    header x-request-id '?*'
}

# refused STATUS SLUG METHOD PATH [curl's options]: the answer is a problem of this kind (RFC 9457).
refused() {
    about=$2
    code=$1
    shift 2
    ask "$code" "$PROBLEM" "$@"
    says "\"type\": \"/problems/$about\""
    says "\"status\": $code"
}

wrong() {
    echo "FAIL $asked: $1"
    head -c 300 "$body" | tr -c '[:print:]\n' '?'
    echo
    failed=$((failed + 1))
}

# value NAME: a header of the last answer.
value() { tr -d '\r' <"$head" | sed -n "s/^$1: //Ip" | tail -n 1; }

# header NAME PATTERN: the last answer has this header, and it is like the shell's pattern.
header() {
    # shellcheck disable=SC2254  # it is a pattern
    case $(value "$1") in
        $2) ;;
        *) wrong "$1 is '$(value "$1")'; expected: '$2'" ;;
    esac
}

# without NAME: the last answer has no such header.
without() { [ -z "$(value "$1")" ] || wrong "$1 is '$(value "$1")'; expected: none"; }

# says TEXT: the last answer's body has it, on whatever line.
says() { grep -aqF -- "$1" "$body" || wrong "the body does not have: $1"; }

# starts BYTES: the last answer's body starts with them, in hex.
starts() {
    begins=$(od -An -tx1 -N 8 "$body" | tr -d ' \n')
    case $begins in
        "$1"*) ;;
        *) wrong "the body starts with $begins; expected: $1" ;;
    esac
}

# equals FILE: the last answer's body is that file, byte for byte.
equals() { cmp -s "$body" "$1" || wrong "the body is not the same bytes as before"; }

keep() { cp "$body" "$DIR/$1"; }

# field NAME: the first value of a name in the last answer's JSON: a string, number or list.
field() {
    tr -d '\n ' <"$body" | sed -n "s/.*\"$1\":\(\[[^]]*\]\|\"[^\"]*\"\|[0-9.]*\).*/\1/p" | tr -d '"'
}

PNG=89504e47 WEBP=52494646 ZIP=504b0304 NPY=934e554d
JSON=application/json

echo "# What is served"
ask 200 $JSON GET /models
says '"default"'
MODEL=$(tr -d ' ' <"$body" | sed 's/.*"default":"\([^"]*\)".*/\1/')
VAE=$(tr -d ' ' <"$body" | sed 's/.*"default_encoder":"\([^"]*\)".*/\1/')
ask 200 text/html GET /models -H 'Accept: text/html'
header content-security-policy "default-src 'self'*"
ask 200 $JSON GET "/models/$VAE"
says '"reproducibility"'
DIM=$(field latent_dim)
ask 200 $JSON GET "/models/$MODEL"
says '"digest"'
PICTURE=$(tr -d ' ' <"$body" | sed -n 's/.*"samples":"\([^"]*\)".*/\1/p')
[ -z "$PICTURE" ] || ask 200 image/png GET "$PICTURE"
ask 200 text/html GET "/models/$MODEL" -H 'Accept: text/html,application/xhtml+xml,*/*;q=0.8'
refused 404 unknown-model GET /models/nobody
refused 404 not-found GET "/models/$MODEL/pictures/none.png"

echo "# /generate"
ask 200 image/png POST '/generate'
starts $PNG
header cache-control no-store
without etag
header x-seed '[0-9]*'
header x-model "$MODEL"
header server-timing 'queue;dur=*batch;desc="*of*"*compute;dur=*encode;dur=*'
ask 200 image/png GET '/generate?label=7&seed=42'
header cache-control no-cache
header x-seed 42
keep seven
ETAG=$(value etag) LINK=$(value content-location)
ask 200 image/png GET "$LINK"
header cache-control 'public, max-age=31536000, immutable'
equals "$DIR/seven"
ask 200 image/png POST '/generate?seed=42&label=7'
equals "$DIR/seven"
ask 304 "$NOTHING" GET '/generate?label=7&seed=42' -H "If-None-Match: $ETAG"
ask 304 "$NOTHING" GET '/generate?label=7&seed=42' -H "If-None-Match: \"other\", W/$ETAG"
ask 304 "$NOTHING" GET '/generate?label=7&seed=42' -H 'If-None-Match: *'
ask 200 image/png GET '/generate?label=7&seed=43' -H "If-None-Match: $ETAG"
ask 200 image/png HEAD '/generate?label=7&seed=42'
header etag "$ETAG"
ask 204 "$NOTHING" OPTIONS /generate
header allow 'GET, HEAD, OPTIONS, POST'
ask 200 image/png GET "/generate?model=$MODEL&n=9&seed=1"
ask 200 image/png GET "/generate?model=$VAE&n=4&seed=1"
ask 200 image/png GET '/generate?n=9&seed=1&layout=strip'
ask 200 image/apng GET '/generate?n=4&seed=1&layout=animation&frame_ms=200'
ask 200 image/png GET '/generate?label=7&seed=42&scale=8'
ask 200 image/png GET '/generate?truncation=0&label=7&seed=1'
keep mean
ask 200 image/png GET '/generate?truncation=0&label=7&seed=1'
equals "$DIR/mean"
ask 200 $JSON GET '/generate?seeds=0-3,17&label=7' -H 'Accept: application/json'
says '"seed":17'
says '"permalink":"/generate?'
for accept in "image/webp $WEBP" "application/x-npy $NPY" "application/zip $ZIP"; do
    ask 200 "${accept% *}" GET '/generate?n=2&seed=5' -H "Accept: ${accept% *}"
    starts "${accept#* }"
done
for format in "png image/png" "webp image/webp" "json $JSON" "npy application/x-npy" \
    "zip application/zip"; do
    ask 200 "${format#* }" GET "/generate?n=2&seed=5&format=${format% *}" -H 'Accept: text/html'
done
ask 200 image/png GET '/generate?seed=1' -H 'Accept: text/html, image/*;q=0.5'
ask 200 image/png GET '/generate?label=7&seed=42&metadata=none'
if grep -aq trainedAlgorithmicMedia "$body"; then wrong "it has a mark"; fi
ask 200 image/png GET '/generate?label=7&seed=42&metadata=mark'
says trainedAlgorithmicMedia
keep marked
if grep -aq genserve "$body"; then wrong "it has a recipe"; fi
ask 200 image/png GET '/generate?label=7&seed=42&metadata=full'
says genserve
ask 200 image/png GET '/generate?seed=1' -H 'X-Timeout-Ms: 30000' -H 'X-Request-ID: walk-1.a_b'
header x-request-id walk-1.a_b
ask 200 image/png GET '/generate?seed=1' -H 'X-Request-ID: not harmless'
header x-request-id '[0-9a-f]*'

echo "# What /generate refuses"
refused 422 invalid-parameter GET '/generate?label=10'
says '0 to 9'
refused 422 invalid-parameter GET '/generate?lable=7'
says 'did you mean label?'
refused 422 invalid-parameter GET '/generate?label=1&label=2'
for query in label=07 label=%207 seed=-1 seed=9007199254740992 n=0 n=1e3 truncation=-1 scale=17 \
    format=tiff layout=row metadata=all frame_ms=1 seeds=3-1 'seeds=1&seed=1'; do
    refused 422 invalid-parameter GET "/generate?$query"
done
refused 422 invalid-parameter POST /generate -H "Content-Type: $JSON" -d '{"label": 7}'
refused 422 invalid-parameter GET /generate -H 'X-Timeout-Ms: soon'
refused 404 unknown-model GET "/generate?model=../$MODEL"
refused 404 unknown-model GET "/generate?model=$MODEL@000000000000"
refused 422 wrong-model GET "/generate?model=$VAE&label=7"
refused 406 not-acceptable GET /generate -H 'Accept: image/tiff'
refused 405 method-not-allowed DELETE /generate
header allow 'GET, HEAD, OPTIONS, POST'

echo "# /verify"
ask 200 $JSON POST /verify -H 'Content-Type: image/png' --data-binary @"$DIR/seven"
says '"verdict":"same"'
header cache-control no-store
ask 200 $JSON POST /verify -F "file=@$DIR/seven"
says '"verdict":"same"'
# The recipe of one picture before the pixels of another; and a byte that its checksum tells of.
pixels_at() { grep -abo IDAT "$1" | sed -n '1s/:.*//p'; }
ask 200 image/png GET '/generate?label=7&seed=43'
keep other
head -c $(($(pixels_at "$DIR/seven") - 4)) "$DIR/seven" >"$DIR/forged"
tail -c +$(($(pixels_at "$DIR/other") - 3)) "$DIR/other" >>"$DIR/forged"
ask 200 $JSON POST /verify -H 'Content-Type: image/png' --data-binary @"$DIR/forged"
says '"verdict":"different"'
LC_ALL=C sed 's/"seeds":"42"/"seeds":"43"/' "$DIR/seven" >"$DIR/broken"
refused 422 unreadable-image POST /verify -H 'Content-Type: image/png' --data-binary @"$DIR/broken"
refused 422 no-recipe POST /verify -H 'Content-Type: image/png' --data-binary @"$DIR/marked"
refused 415 unsupported-media-type POST /verify -H "Content-Type: $JSON" -d '{}'

echo "# /encode, /decode, /reconstruct"
ask 200 $JSON POST "/encode?seed=3" -H 'Content-Type: image/png' --data-binary @"$DIR/seven"
says '"logvar"'
header x-picture 28x28
header x-model "$VAE"
Z=$(field mu)
ask 200 $JSON POST "/encode?model=$VAE&invert=yes&center=no" -F "file=@$DIR/seven"
header x-picture '28x28, inverted'
BASE64=$(base64 <"$DIR/seven" | tr -d '\n')
ask 200 $JSON POST /encode -H "Content-Type: $JSON" -d "{\"images\": [\"$BASE64\", \"$BASE64\"]}"
header x-picture '28x28; 28x28'
ask 200 image/webp GET '/generate?label=7&seed=42&format=webp&scale=4'
keep webp
ask 200 $JSON POST /encode -H 'Content-Type: image/webp' --data-binary @"$DIR/webp"
ask 200 image/png POST /decode -H "Content-Type: $JSON" -d "{\"z\": [$Z]}"
starts $PNG
header cache-control no-store
keep decoded
printf '\223NUMPY\001\000v\000%-117s\n' \
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1, $DIM), }" >"$DIR/z.npy"
head -c $((4 * DIM)) /dev/zero >>"$DIR/z.npy"
ask 200 application/x-npy POST "/decode?model=$VAE&format=npy&scale=1" \
    -H 'Content-Type: application/x-npy' --data-binary @"$DIR/z.npy"
starts $NPY
ask 200 image/png POST /reconstruct -H 'Content-Type: image/png' --data-binary @"$DIR/seven"
says compositeWithTrainedAlgorithmicMedia
for show in beside error; do
    ask 200 image/png POST "/reconstruct?show=$show&scale=2&metadata=none" -F "file=@$DIR/seven"
done
ask 200 $JSON POST /reconstruct -H 'Accept: application/json' -F "file=@$DIR/seven"
says '"error":'
refused 400 malformed-body POST /decode -H "Content-Type: $JSON" -d '{"z": [[NaN]]}'
refused 422 invalid-parameter POST /decode -H "Content-Type: $JSON" -d '{"z": [[]]}'
refused 415 unsupported-media-type POST /decode -H 'Content-Type: text/plain' -d '{"z": []}'
header accept-post '*application/x-npy*'
refused 415 unsupported-media-type POST /encode -H 'Content-Encoding: gzip' -F "file=@$DIR/seven"
refused 422 unreadable-image POST /encode -H 'Content-Type: image/png' -d 'no picture'
refused 422 wrong-model POST "/encode?model=$MODEL" -F "file=@$DIR/seven"
refused 422 invalid-parameter POST /encode -F "picture=@$DIR/seven"
refused 413 body-too-large POST /encode -H 'Content-Type: image/png' \
    -H 'Content-Length: 99999999999' -d x
header connection close

echo "# /interpolate, /traverse"
ask 200 image/png GET '/interpolate?seeds=3,17&steps=5&label=7&method=lerp&layout=strip'
header content-location '/interpolate?*'
header etag '"*"'
ETAG=$(value etag)
ask 304 "$NOTHING" GET '/interpolate?seeds=3,17&steps=5&label=7&method=lerp&layout=strip' \
    -H "If-None-Match: $ETAG"
ask 200 image/webp POST '/interpolate?seeds=3,17&layout=animation&format=webp'
ask 200 application/zip GET '/interpolate?seeds=3,17&steps=3&format=zip'
ask 200 application/x-npy GET '/interpolate?seeds=3,17&steps=3&format=npy'
ask 200 image/png POST /interpolate -F "file=@$DIR/seven" -F "file=@$DIR/webp"
header cache-control no-store
ask 200 $JSON POST '/interpolate?steps=3&format=json' -H "Content-Type: $JSON" \
    -d "{\"ends\": [{\"seed\": 3}, {\"z\": $Z}, {\"image\": \"$BASE64\"}]}"
says '"at":2.0'
refused 422 invalid-parameter GET '/interpolate'
refused 422 invalid-parameter GET '/interpolate?seeds=3,17&steps=0'
ask 200 image/png GET "/traverse?model=$VAE&seed=5&axes=0,1&low=-2.5&high=2.5&steps=3"
header x-axes 0,1
header content-location '/traverse?*'
ask 200 image/png POST '/traverse?steps=3' -F "file=@$DIR/seven"
header x-axes '*,*'
ask 200 $JSON POST '/traverse?steps=3&format=json' -H "Content-Type: $JSON" -d "{\"z\": $Z}"
says '"axis":'
refused 422 invalid-parameter GET '/traverse?low=3&high=-3'
refused 422 invalid-parameter POST '/traverse?seed=3' -H "Content-Type: $JSON" -d '{"seed": 3}'
says 'give either'

echo "# /dataset"
ask 200 application/zip POST '/dataset?n=20&seed=1'
starts $ZIP
says metadata.csv
keep first
ask 200 application/zip GET '/dataset?n=20&seed=1&metadata=mark'
equals "$DIR/first"
ask 200 application/x-npz GET "/dataset?n=20&seed=1&format=npz&model=$MODEL&label=7"
header etag '"*"'
keep npz
ETAG=$(value etag)
ask 304 "$NOTHING" GET "/dataset?n=20&seed=1&format=npz&model=$MODEL&label=7" \
    -H "If-None-Match: $ETAG"
ask 206 application/x-npz GET "/dataset?n=20&seed=1&format=npz&model=$MODEL&label=7" \
    -H "If-Range: $ETAG" -H 'Range: bytes=1000-'
tail -c +1001 "$DIR/npz" >"$DIR/rest"
equals "$DIR/rest"
refused 416 range-not-satisfiable GET "/dataset?n=20&seed=1&format=npz&model=$MODEL&label=7" \
    -H "If-Range: $ETAG" -H 'Range: bytes=99999999-'
header content-range 'bytes \*/[0-9]*'
refused 422 invalid-parameter GET '/dataset?n=0'
refused 406 not-acceptable GET '/dataset' -H 'Accept: image/png'

echo "# Operation, pages, problems"
ask 200 $JSON GET /livez
ask 200 $JSON GET /readyz
says "$MODEL"
ask 200 $JSON GET /status
says '"predicted_wait_seconds"'
ask 200 text/plain GET /metrics
says genserve_requests_total
ask 200 $JSON GET /problems
says '"overloaded"'
for slug in $(grep -o '"[a-z-]*":{' "$body" | tr -d '":{'); do
    ask 200 $JSON GET "/problems/$slug"
    ask 200 text/html GET "/problems/$slug" -H 'Accept: text/html'
done
refused 404 not-found GET /problems/none
for page in / /docs /redoc; do
    ask 200 text/html GET "$page"
    header content-security-policy "default-src 'self'*"
    if grep -aqE '(src|href)="(https?:)?//' "$body"; then wrong "it loads from another host"; fi
done
ask 200 $JSON GET /openapi.json
says '"operationId":"generate"'
says '"openapi":"3.1'
for path in /models /livez /status /metrics /problems / /openapi.json /v2; do
    ask 200 "" HEAD "$path"
    ask 204 "$NOTHING" OPTIONS "$path"
    header allow 'GET, HEAD, OPTIONS'
done

echo "# Open Inference Protocol"
ask 200 $JSON GET /v2
says binary_tensor_data
ask 200 $JSON GET /v2/health/live
ask 200 $JSON GET /v2/health/ready
ask 200 $JSON POST /v2/repository/index
for path in "/v2/models/$VAE" "/v2/models/$VAE.decode/versions/1"; do
    ask 200 $JSON GET "$path"
    says '"inputs"'
    ask 200 $JSON GET "$path/ready"
done
TENSOR='{"inputs": [{"name": "seed", "datatype": "INT64", "shape": [2], "data": [42, 7]}]}'
for path in "/v2/models/$MODEL/infer" "/v2/models/$MODEL/versions/1/infer"; do
    ask 200 $JSON POST "$path" -H "Content-Type: $JSON" -d "$TENSOR"
    says '"UINT8"'
done
JSON_PART='{"inputs": [{"name": "seed", "datatype": "INT64", "shape": [1],
    "parameters": {"binary_data_size": 8}}]}'
printf '%s\052\0\0\0\0\0\0\0' "$JSON_PART" >"$DIR/binary"
ask 200 $JSON POST "/v2/models/$MODEL/infer" -H 'Content-Type: application/octet-stream' \
    -H "Inference-Header-Content-Length: ${#JSON_PART}" --data-binary @"$DIR/binary"
says '"seed"'
ask 400 $JSON POST "/v2/models/$MODEL/infer" -H "Content-Type: $JSON" -d '{'
says '{"error": "'
ask 404 $JSON GET /v2/models/nobody
says '{"error": "'

echo "# Whoever asks, and however"
refused 404 not-found GET /nothing
refused 404 not-found GET /generate/
refused 404 not-found GET '/static/../app/main.py'
refused 403 cross-site POST /generate -H 'Sec-Fetch-Site: cross-site'
refused 403 cross-site POST /generate -H 'Origin: https://evil.example.com'
refused 421 misdirected-request GET /models -H 'Host: evil.example.com'
refused 400 malformed-request GET /models -H 'Host: a b'
LONG=$(printf '%070000d' 0)
refused 414 uri-too-long GET "/generate?seeds=$LONG"
refused 431 headers-too-large GET /livez -H "X-Long: $LONG"
ask 200 $JSON GET /models -H 'Origin: https://evil.example.com'
without access-control-allow-origin
ask 200 image/png GET '/generate?label=7&seed=42'
equals "$DIR/seven"

echo "$failed wrong"
[ "$failed" = 0 ]
