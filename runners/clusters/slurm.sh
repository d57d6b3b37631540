#!/usr/bin/env bash
# A Ray cluster out of a Slurm allocation, with the study's driver on its first node. Tried with stand-ins for Slurm's
# programs (a test), not on a Slurm cluster.
#
#     sbatch --nodes 4 --gpus-per-node 4 --export=ALL,STUDY=study.yaml,DATA=$HOME/imagenet,RUNNER=gpu.yaml \
#         runners/clusters/slurm.sh
#
# Submitted again after its time limit it goes on with the study. Everything lies on the file system all nodes share. With
# several nodes the study's latency is predicted (latency_ms: {device: PROFILE.yaml}), or the runner names the device.
#SBATCH --job-name=starsearch
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
set -euo pipefail

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
port=$((20000 + SLURM_JOB_ID % 20000)) # several jobs may share a node
on() { # NODE COMMAND…: one task there, with all the cores of the job; srun takes one core unless told
  local node=$1
  shift
  srun --overlap --nodes=1 --ntasks=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" --nodelist="$node" "$@"
}
ip=$(on "$head" hostname --ip-address | awk '{print $1}')
start() { # NODE ARGUMENTS…: Ray on that node, until the job ends
  local node=$1
  shift
  on "$node" ray start "$@" --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" --block &
}

start "$head" --head --node-ip-address="$ip" --port="$port"
for _ in $(seq 60); do # its door opens after a few seconds
  on "$head" ray status --address="$ip:$port" >/dev/null 2>&1 && break
  sleep 1
done
for node in "${nodes[@]:1}"; do start "$node" --address="$ip:$port"; done

export RAY_ADDRESS="$ip:$port"
starsearch run "${STUDY:-starnet}" ${DATA:+--data "$DATA"} ${RUNNER:+--runner "$RUNNER"} --out "${OUT:-studies}" &
driver=$!
trap 'kill -TERM $driver' TERM # two minutes before the limit: the running trials are told to be cut off
wait "$driver" || wait "$driver" # the first wait ends with the signal, the second with the driver
