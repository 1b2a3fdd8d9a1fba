#!/usr/bin/env bash
# What runs inside the namespaces that cluster.py makes:  inside.sh hub FOLDER NODES  |  inside.sh node FOLDER NUMBER
# Each is pid 1 of a PID namespace, so that its end is the end of everything it started, jobs included.
set -euo pipefail
role=$1 folder=$2
subnet=10.213.0 # ours: seen inside the hub's own network namespace only, so that any will do

enter_host() { # its own name, hosts file, resolver and shared memory, as a machine has
  hostname "$1"
  mount --bind "$folder/hosts" /etc/hosts
  mount --bind "$folder/nsswitch.conf" /etc/nsswitch.conf # a name that the file lacks fails at once and is asked of nobody
  mount -t tmpfs tmpfs /dev/shm
  ip link set lo up
}

start_node() {
  unshare --net --uts --pid --mount --mount-proc --fork --kill-child bash "$0" node "$folder" "$1" </dev/null >>"$folder/log/node$1.out" 2>&1 &
  local starter=$! child=
  until child=$(cut -d' ' -f1 "/proc/$starter/task/$starter/children") && [ -n "$child" ]; do sleep 0.01; done
  until [ "$(readlink "/proc/$child/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
  ip link add "veth$1" type veth peer name eth0 netns "$child"
  ip link set "veth$1" master bridge up
  echo "$child" >"$folder/pids/node$1.tmp"
  mv "$folder/pids/node$1.tmp" "$folder/pids/node$1"
}

case $role in
  hub)
    nodes=$3
    enter_host login
    ip link add bridge type bridge
    ip addr add $subnet.254/24 dev bridge
    ip link set bridge up
    # --force: the folder above the socket may be closed to others, which munged objects to
    munged --foreground --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" --pid-file="$folder/pids/munged" \
      --log-file="$folder/log/munged.log" --seed-file="$folder/munge.seed" </dev/null >>"$folder/log/munged.out" 2>&1 &
    until [ -S "$folder/munge.socket" ]; do sleep 0.01; done
    slurmctld -D </dev/null >>"$folder/log/slurmctld.out" 2>&1 &
    for number in $(seq "$nodes"); do start_node "$number"; done
    echo up
    while read -r command number; do # until whoever started the cluster is gone
      case $command in
        start) start_node "$number" ;;
        kill) # the plug is pulled: no farewell, no FIN
          child=$(cat "$folder/pids/node$number")
          rm "$folder/pids/node$number"
          ip link del "veth$number"
          kill -KILL "$child"
          while kill -0 "$child" 2>/dev/null; do sleep 0.01; done
          ;;
      esac
      echo "$command $number"
    done
    rm -rf "$folder" || true # daemons still write there
    ;;
  node)
    enter_host "node$3"
    until ip link show eth0 >/dev/null 2>&1; do sleep 0.01; done
    ip addr add "$subnet.$3/24" dev eth0
    ip link set eth0 up
    slurmd -D -N "node$3" & # not exec: bash stays as the init that reaps what jobs leave
    wait
    ;;
esac
