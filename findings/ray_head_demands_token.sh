#!/usr/bin/env bash
# Ray 2.60.0: `ray start --head`, and a program with ray.init("HOST:PORT").
#
# Expected: what connects to a cluster today does so tomorrow, as long as
# neither command nor environment has changed.
#
# What happens: any ray.init() without an address, such as a first try on the
# same home folder, leaves a token in ~/.ray/auth_token. From then on `ray
# start --head` demands this token. Commands and programs that are given the
# head's address do not send it, though they could read the same file, unless
# RAY_AUTH_MODE=token is set for them, too. A script that waits for `ray
# status --address` waits for ever, and the error of ray.init names no token.
#
# Seen:
#   before ray.init(): ray status exits with 0, ray.init(HOST:PORT): connected
#   after ray.init(): ray status exits with 1, ray.init(HOST:PORT): ConnectionError
#   after, RAY_AUTH_MODE=token: ray status exits with 0, ray.init(HOST:PORT): connected
set -euo pipefail
script=$(realpath "$0") work=$(mktemp -d) head=
trap '[[ -z $head ]] || kill $head 2>/dev/null || true; sleep 3; rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile ray==2.60.0
cd "$work"
unset RAY_AUTH_MODE RAY_AUTH_TOKEN RAY_AUTH_TOKEN_PATH RAY_ADDRESS
export HOME=$work PATH=$work/venv/bin:$PATH RAY_USAGE_STATS_ENABLED=0 RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0
port=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat > connected.py <<'PY'
import sys

import ray

try:
    ray.init("127.0.0.1:" + sys.argv[1], log_to_driver=False, logging_level="ERROR")
    print("connected")
except Exception as error:
    print(type(error).__name__)
PY

tried() { # TITLE: a head, seen by two clients
    ray start --head --port="$port" --num-cpus=1 --include-dashboard=false --temp-dir="$work/r" --block > head.log 2>&1 &
    head=$!
    until grep -q "Ray runtime started" head.log; do kill -0 $head; sleep 1; done
    status=0
    timeout 60 ray status --address="127.0.0.1:$port" > status.log 2>&1 || status=$?
    echo "$1: ray status exits with $status, ray.init(HOST:PORT): $(python connected.py "$port" 2>/dev/null)"
    kill $head
    wait $head || true
    head=
}

{
    tried "before ray.init()"
    [[ ! -e .ray/auth_token ]]
    python -c 'import ray; ray.init("local", num_cpus=1, include_dashboard=False, logging_level="ERROR")' 2>/dev/null
    [[ -s .ray/auth_token ]]
    tried "after ray.init()"
    export RAY_AUTH_MODE=token
    tried "after, RAY_AUTH_MODE=token"
} > out
cat out
diff out <(sed -n '/^# Seen:/,/^set/s/^#   //p' "$script")
