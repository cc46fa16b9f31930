#!/usr/bin/env bash
# Slurm 22.05.8 (Debian 12), task/affinity with TaskPluginParam=Cores.
#
# Expected: srun in a batch job with --cpus-per-task=2 starts its program on
# both cores of the job. The program even finds SLURM_CPUS_PER_TASK=2 and
# SLURM_CPUS_ON_NODE=2 in its environment.
#
# What happens: where the site binds tasks to cores, the program may use one
# core. Since 22.05 srun takes no --cpus-per-task from its job. Whatever
# starts as many threads or workers as SLURM_CPUS_PER_TASK says has them share
# this core, without any message. --cpus-per-task in the call of srun, or
# SRUN_CPUS_PER_TASK, brings the other cores back; the batch script itself has
# all of them.
#
# Seen:
#   batch script       SLURM_CPUS_PER_TASK=2 cores=2
#   srun               SLURM_CPUS_PER_TASK=2 cores=1
#   srun -c 2          SLURM_CPUS_PER_TASK=2 cores=2
#   SRUN_CPUS_PER_TASK SLURM_CPUS_PER_TASK=2 cores=2
#
# Needs two cores, Debian 12 with current package lists, and no rights: all
# lies in a temporary folder and runs as the present user (on cgroup v1).
set -euo pipefail
script=$(realpath "$0") work=$(mktemp -d)
trap 'kill $(cat "$work"/*.pid 2>/dev/null) 2>/dev/null || true; sleep 1; rm -rf "$work"' EXIT
cd "$work"
version=22.05.8-4+deb12u3
apt-get -qq download {slurmctld,slurmd,slurm-client,slurm-wlm-basic-plugins}="$version" libhwloc15 libnuma1 \
    libjson-c5 libmunge2 liblua5.1-0 libdbus-1-3 libyaml-0-2 liblz4-1 libpam0g 2>/dev/null
for package in *.deb; do dpkg-deb -x "$package" .; done
libraries=$(echo usr/lib/*-linux-gnu)
export LD_LIBRARY_PATH=$work/$libraries:$work/$libraries/slurm-wlm:$work/lib/${libraries##*/}
export PATH=$work/usr/bin:$PATH SLURM_CONF=$work/slurm.conf
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
mkdir state spool
cat > slurm.conf <<CONF
ClusterName=finding
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmctldPort=$(port)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/none
CredType=cred/none
MpiDefault=none
PluginDir=$work/$libraries/slurm-wlm
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
TaskPluginParam=Cores
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmctldParameters=enable_configless
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmdParameters=config_overrides
NodeName=one NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=$(port) Sockets=1 CoresPerSocket=2 ThreadsPerCore=1
PartitionName=main Nodes=one Default=YES State=UP
CONF
echo "CgroupPlugin=cgroup/$([[ -e /sys/fs/cgroup/cgroup.controllers ]] && echo v2 || echo v1)" > cgroup.conf
usr/sbin/slurmctld-wlm
usr/sbin/slurmd-wlm -N one -d "$work/usr/sbin/slurmstepd-wlm"
cat > job.sh <<'JOB'
#!/bin/bash
#SBATCH --ntasks=1 --cpus-per-task=2
task='printf "%-18s SLURM_CPUS_PER_TASK=%s cores=%s\n" "$0" $SLURM_CPUS_PER_TASK $(nproc)'
unset OMP_NUM_THREADS  # nproc would believe it
bash -c "$task" "batch script"
srun bash -c "$task" "srun"
srun --cpus-per-task=2 bash -c "$task" "srun -c 2"
SRUN_CPUS_PER_TASK=2 srun bash -c "$task" "SRUN_CPUS_PER_TASK"
JOB
timeout 120 sbatch --quiet --wait --output=out job.sh
cat out
diff out <(sed -n '/^# Seen:/,/^#$/s/^#   //p' "$script")
