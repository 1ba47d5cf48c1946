#!/bin/bash
# Overload: what a gateway still serves when it is asked for twice what it can, by patient clients and by impatient ones.
#
# The gateway has a share of CPU 0 (a cgroup's quota, so root is needed), load and endpoint have CPU 1: only so can one
# program ask another for twice its capacity. A round finds the capacity (closed loop, fewer clients than
# bounds.in_flight), then offers 70, 85 and 100 % of it; the best goodput of these is the peak. Then it offers twice the
# capacity by clients that wait 10 s for an answer, by clients that give up after 1 s and come again on a new
# connection, and by such of which one in twenty asks for a critical route. Goodput is answers with status 200 to requests
# that were sent in time: an arrival that finds no free client is not sent.
#
#   overload.sh [ROUNDS]        SHARE=10 percent of CPU 0, CLIENTS=600, SECONDS_EACH=4, IN_FLIGHT=128, PORT=18500
set -euo pipefail

rounds=${1:-5}
share=${SHARE:-10} clients=${CLIENTS:-600} seconds=${SECONDS_EACH:-4} in_flight=${IN_FLIGHT:-128} port=${PORT:-18500}
binaries=${BINARIES:-$(cd "$(dirname "$0")/../../target/release" && pwd)}
tollgate=${TOLLGATE:-$binaries/tollgate} loadtest=${LOADTEST:-$binaries/loadtest}
work=$(mktemp -d)
group=tollgate-overload-$$ children=()

finish() {
    kill "${children[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    rmdir "$group_path" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

# A quota on the CPU time, with a short period: a long one would make pauses that clients notice as such.
if [ -d /sys/fs/cgroup/cpu ]; then
    group_path=/sys/fs/cgroup/cpu/$group
    mkdir "$group_path"
    echo 10000 >"$group_path/cpu.cfs_period_us"
    echo $((share * 100)) >"$group_path/cpu.cfs_quota_us"
else
    group_path=/sys/fs/cgroup/$group
    mkdir "$group_path"
    echo "$((share * 100)) 10000" >"$group_path/cpu.max"
fi

cat >"$work/tollgate.toml" <<TOML
[listen]
address = ["127.0.0.1:$port"]
admin = "127.0.0.1:$((port + 1))"
[shards]
count = 1
cpus = "none"
[bounds]
in_flight = $in_flight
[timeouts]
queue = "${QUEUE:-200ms}"
[[cluster]]
name = "endpoints"
endpoints = [{ address = "127.0.0.1:$((port + 2))" }]
[[route]]
name = "normal"
path = "/normal"
cluster = "endpoints"
[[route]]
name = "critical"
path = "/critical"
priority = "critical"
cluster = "endpoints"
[log]
access = "access.log"
TOML
printf '[[route]]\nname = "%s"\nweight = %s\npath = "/%s"\n' normal 19 normal critical 1 critical >"$work/mix.toml"

taskset -c 1 "$loadtest" upstream --listen "127.0.0.1:$((port + 2))" --body 512 >"$work/upstream.out" 2>&1 &
children+=($!)
ulimit -n "$(ulimit -Hn)"
(cd "$work" && exec taskset -c 0 "$tollgate" run --config tollgate.toml) >"$work/gateway.out" 2>&1 &
children+=($!)
gateway=$!
until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do sleep 0.1; done
echo "$gateway" >"$group_path/cgroup.procs"

# One run; its report is in $work/run.json.
measure() {
    "$loadtest" run --target "http://127.0.0.1:$port/normal" --cpus 1 --threads 1 --duration "${seconds}s" --pid "$gateway" \
        --max-lag 1s --json "$work/run.json" "$@" >/dev/null 2>&1 || true
}
# A number of the last report, the first that has this name.
figure() { grep -m1 "\"$1\":" "$work/run.json" | sed 's/.*: *//; s/,.*//'; }
goodput() { awk -v count="$(figure 200)" -v seconds="$seconds" 'BEGIN { printf "%.0f", count / seconds }'; }
# Good answers on a route of the mix, of those that were sent to it, in percent.
served() {
    awk -v name="\"$1\"" '
        /"routes":/ { inside = 1 } /"bad_tokens":/ { inside = 0 }
        inside && /"name":/ { mine = index($0, name) }
        inside && mine && /"answered":/ { gsub(/[^0-9]/, ""); answered = $0 }
        inside && mine && /"[0-9]+":/ { sub(/.*: */, ""); sub(/,.*/, ""); bad += $0 }
        END { printf "%.1f", answered ? 100 * (answered - bad) / answered : 0 }' "$work/run.json"
}
percent() { awk -v part="$1" -v whole="$2" 'BEGIN { printf "%.1f", whole ? 100 * part / whole : 0 }'; }
median() { sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

offer() { measure --rate "$1" --connections "$clients" --max-in-flight "$clients" --timeout "$2" "${@:3}"; }

printf '%-6s %9s %7s  %s\n' round capacity peak 'at twice the capacity: goodput, of the peak, answers per second of all kinds, time-outs'
for round in $(seq "$rounds"); do
    measure --closed --connections $((in_flight / 2))
    capacity=$(goodput)
    peak=0
    for part in 70 85 100; do
        offer $((capacity * part / 100)) 10s
        [ "$(goodput)" -gt "$peak" ] && peak=$(goodput)
    done
    printf '%-6s %9s %7s' "$round" "$capacity" "$peak"
    for timeout in 10s 1s; do
        offer $((2 * capacity)) "$timeout"
        share_of_peak=$(percent "$(goodput)" "$peak")
        echo "$share_of_peak" >>"$work/of_peak.$timeout"
        printf '  %s: %5s %5s %% %5.0f %4s' "$timeout" "$(goodput)" "$share_of_peak" "$(figure rate_achieved)" "$(figure timeout)"
    done
    offer $((2 * capacity)) 1s --mix "$work/mix.toml"
    printf '  served of critical %s %%, of normal %s %%\n' "$(served critical)" "$(served normal)"
done
for timeout in 10s 1s; do
    echo "clients that wait $timeout: $(median <"$work/of_peak.$timeout") % of the peak (median)"
done
