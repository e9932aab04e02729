#!/usr/bin/env bash
# A Slurm of one machine, for the time of a command: munged, slurmctld and slurmd as root, all files in
# a folder of its own, ports that are free. What a call that was killed has left is ended first.
#
#   tests/cluster/slurm.sh COMMAND ...    the command sees it by SLURM_CONF
#
# Debian's packages are installed where they are missing. Without root, Debian or packages: a line
# that says what is missing, exit code 0.
set -uo pipefail

folders=${TMPDIR:-/tmp}/mopd-cluster-
wanted=(slurmctld slurmd sbatch scontrol munged)

skip() {
    echo "test-cluster: skipped, $1"
    exit 0
}

missing() {
    local name
    for name in "${wanted[@]}"; do command -v "$name" >/dev/null || echo "$name"; done
}

install() {
    command -v apt-get >/dev/null || skip "$(missing | tr '\n' ' ')not installed, and no apt-get (Debian) to install them"
    echo "test-cluster: installing slurm-wlm and munge"
    local log
    log=$(mktemp)
    export DEBIAN_FRONTEND=noninteractive
    # a registry that does not answer shall not hold up the tests
    local apt=(timeout 300 apt-get -q -y -o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20)
    # lists that are there may be enough, and save half a minute
    "${apt[@]}" install --no-install-recommends slurm-wlm munge >"$log" 2>&1 ||
        { "${apt[@]}" update && "${apt[@]}" install --no-install-recommends slurm-wlm munge; } >"$log" 2>&1 ||
        { tail -n 5 "$log"; rm -f "$log"; skip "apt-get cannot install slurm-wlm and munge (see above)"; }
    rm -f "$log"
    [ -z "$(missing)" ] || { echo "test-cluster: slurm-wlm and munge are installed, but without $(missing | tr '\n' ' ')" >&2; exit 1; }
}

# end the daemons of a folder: by their files, and only if they are still those
stop() {
    local file pid
    for name in slurmctld slurmd munged; do
        file=$1/$name.pid
        pid=$(cat "$file" 2>/dev/null) || continue
        tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "$1" || continue
        kill "$pid"
        for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        kill -9 "$pid" 2>/dev/null
    done
    # jobs and what keeps them, which see this Slurm and no other one
    for file in $(grep -lsF "SLURM_CONF=$1/" /proc/[0-9]*/environ); do
        pid=${file//[!0-9]/}
        kill -9 "$pid" 2>/dev/null
    done
    rm -rf "$1"
}

stop_left_over() {
    local folder owner
    for folder in "$folders"*; do
        [ -d "$folder" ] || continue
        owner=$(cat "$folder/owner" 2>/dev/null) || continue
        kill -0 "$owner" 2>/dev/null || { echo "test-cluster: ending what another call has left in $folder"; stop "$folder"; }
    done
}

free_ports() {
    python3 - "$1" <<'PYTHON'
import socket, sys
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(one.getsockname()[1] for one in held))
PYTHON
}

configure() {
    local host ctld_port slurmd_port
    host=$(hostname -s)
    read -r ctld_port slurmd_port < <(free_ports 2)
    mkdir -p "$folder/state" "$folder/spool"
    cat >"$folder/slurm.conf" <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$ctld_port
SlurmdPort=$slurmd_port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# a job that was requeued waits until its credential has run out, usually for two minutes
AuthInfo=socket=$folder/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
JobRequeue=1
KillWait=10
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
# room for three workers, whatever the machine has
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=$host NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=low Nodes=$host Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=high Nodes=$host MaxTime=INFINITE State=UP PriorityTier=2
CONF
    dd if=/dev/urandom of="$folder/munge.key" bs=1024 count=1 status=none
    chmod 600 "$folder/munge.key"
}

# a daemon that cannot start is a failure, told with the end of its log
fail() {
    echo "test-cluster: $1" >&2
    tail -n 20 "$folder"/*.log >&2
    exit 1
}

start() {
    # as root munged wants --force, since that is not its usual user
    munged --force --key-file "$folder/munge.key" --socket "$folder/munge.socket" --pid-file "$folder/munged.pid" \
        --seed-file "$folder/munge.seed" --log-file "$folder/munge.log" 2>"$folder/munged.err.log" || fail "munged does not start"
    # the folder stands in the command line, by which it is found again
    slurmctld -f "$folder/slurm.conf" || fail "slurmctld does not start"
    slurmd -f "$folder/slurm.conf" || fail "slurmd does not start"
    for _ in $(seq 100); do
        sinfo --noheader --format %T 2>/dev/null | grep -q idle && return
        sleep 0.2
    done
    fail "the node is not idle after 20 seconds: $(sinfo --noheader --format '%T %E' 2>&1)"
}

[ "$(uname -s)" = Linux ] || skip "Slurm runs on Linux, and this is $(uname -s)"
[ "$(id -u)" = 0 ] || skip "slurmctld and slurmd are started as root, and this is $(id -un)"
[ -z "$(missing)" ] || install
stop_left_over
folder=$(mktemp -d "${folders}XXXXXX") || exit 1
echo $$ >"$folder/owner"
trap 'stop "$folder"' EXIT
trap 'exit 130' INT TERM
export SLURM_CONF=$folder/slurm.conf
configure
start
"$@"
code=$?
scancel --user root 2>/dev/null
[ "$code" = 0 ] || tail -n 20 "$folder"/slurm*.log >&2
exit "$code"
