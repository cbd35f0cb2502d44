# What the scripts of the workshops share; `run` gives them:
#   IRONMESH   the binary            SAMPLES  the folder samples/       THEIRS  folder of the texts' own
#   HERE       this folder           RESULTS  where outcomes go                 manifests, or nothing
#   PATH       with the shims in front; the folder they run in is theirs alone.
#
# A command that fails fails its step, as does an assertion that does not come true within PATIENCE
# seconds; the steps after it are tried all the same.
set -Euo pipefail

PATIENCE=${PATIENCE:-60}
STEP='' TITLE='' FAILURES=()
trap 'failed "line $LINENO: $BASH_COMMAND"' ERR
trap 'record; "$IRONMESH" --mesh "$IRONMESH_MESH" down >/dev/null 2>&1' EXIT

# step NUMBER TITLE: what follows belongs to it.
step() {
  record
  STEP=$1 TITLE=$2 FAILURES=() STARTED=$SECONDS
  echo "=== $STEP $TITLE" >&2
}

# Notes the outcome of the step that ends.
record() {
  [ -n "$STEP" ] || return 0
  local state=works detail=''
  if [ "${#FAILURES[@]}" -gt 0 ]; then
    state=FAILED detail=${FAILURES[0]}
  fi
  printf '%s|%s|%s|%s|%s\n' "$STEP" "$state" "$TITLE" "$detail" "$((SECONDS - STARTED))" >>"$RESULTS"
  STEP=''
}

failed() {
  echo "!!! $*" >&2
  FAILURES+=("$(printf '%s' "$*" | head -n 1 | tr '|' '/')")
}

# later NUMBER TITLE REASON: a step of the text that ironmesh cannot do yet.
later() {
  record
  printf '%s|%s|%s|%s|0\n' "$1" later "$2" "$3" >>"$RESULTS"
}

# skipped NUMBER TITLE REASON: a step that this machine lacks something for.
skipped() {
  record
  printf '%s|%s|%s|%s|0\n' "$1" skipped "$2" "$3" >>"$RESULTS"
}

# is WHAT COMMAND...: the command succeeds now.
is() {
  local what=$1
  shift
  if ! "$@" >&2; then failed "$what"; fi
}

# becomes WHAT COMMAND...: it succeeds before long.
becomes() {
  local what=$1 deadline=$((SECONDS + PATIENCE))
  shift
  until "$@" >&2; do
    if [ "$SECONDS" -ge "$deadline" ]; then
      failed "$what"
      return 0
    fi
    sleep 0.1
  done
}

# has TEXT COMMAND...: its output has the text (an extended regular expression) in a line.
has() {
  local text=$1
  shift
  grep -Eq -- "$text" <<<"$("$@" 2>&1 || true)"
}

# is_past TIME: the second of a creationTimestamp is over.
is_past() { [[ $(date -u +%Y-%m-%dT%H:%M:%SZ) > $1 ]]; }

# status CODE URL [OPTION...]: HTTP status of a page.
status() {
  local code=$1 url=$2 got
  shift 2
  got=$(curl -s -m 10 -o /dev/null -w '%{http_code}' "$@" "$url" || true)
  [ "$got" = "$code" ] || { echo "$url: $got, not $code"; false; }
}

# pods NAMESPACE COUNT READY [-l SELECTOR]: that many pods are there, all of them ready so (2/2) and
# running.
pods() {
  local namespace=$1 count=$2 ready=$3 all
  shift 3
  all=$(kubectl get pods -n "$namespace" --no-headers "$@" 2>&1 || true)
  if [ "$(wc -l <<<"$all")" -eq "$count" ] && ! grep -Evq " $ready +Running " <<<"$all"; then
    return 0
  fi
  sed -n 1,3p <<<"$all"
  false
}

# between LOW NUMBER HIGH
between() {
  [ "$1" -le "$2" ] && [ "$2" -le "$3" ] || { echo "$2 is not between $1 and $3"; false; }
}

# calls COUNT COMMAND...: the output of that many runs.
calls() {
  local count=$1
  shift
  for ((i = 0; i < count; i++)); do "$@" || true; done
}

# The address of the gateway, as Istio's documentation finds it out.
gateway() {
  export INGRESS_HOST=$(kubectl -n istio-system get service istio-ingressgateway -o jsonpath='{.status.loadBalancer.ingress[0].ip}')
  export INGRESS_PORT=$(kubectl -n istio-system get service istio-ingressgateway -o jsonpath='{.spec.ports[?(@.name=="http2")].port}')
  export SECURE_INGRESS_PORT=$(kubectl -n istio-system get service istio-ingressgateway -o jsonpath='{.spec.ports[?(@.name=="https")].port}')
  export GATEWAY_URL=$INGRESS_HOST:$INGRESS_PORT
}

# place TARGET FILE...: files of the samples at the place where a text has them.
place() {
  local target=$1
  shift
  mkdir -p "$(dirname "$target")"
  for file in "$@"; do
    echo ---
    cat "$file"
  done >"$target"
}
