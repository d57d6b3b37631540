#!/usr/bin/env bash
# A Ray cluster out of a Slurm allocation, with the study's driver on its first node:
#
#     sbatch --nodes 4 --export=ALL,STUDY=starnet,DATA=$HOME/imagenet runners/clusters/slurm.sh
#
# Submitted again after its time limit it goes on with the study. Everything lies on the file system all nodes share.
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
address="$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}'):$port"
gpus=${SLURM_GPUS_ON_NODE:-0}

start() { # NODE ARGUMENTS…: Ray on that node, until the job ends
  local node=$1
  shift
  srun --overlap --nodes=1 --ntasks=1 --nodelist="$node" \
    ray start "$@" --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="$gpus" --block &
}

start "$head" --head --port="$port"
for _ in $(seq 60); do # its door opens after a few seconds
  srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" ray status --address="$address" >/dev/null 2>&1 && break
  sleep 1
done
for node in "${nodes[@]:1}"; do start "$node" --address="$address"; done

export RAY_ADDRESS="$address"
starsearch run "${STUDY:-starnet}" ${DATA:+--data "$DATA"} ${RUNNER:+--runner "$RUNNER"} --out "${OUT:-studies}" &
driver=$!
trap 'kill -TERM $driver' TERM # two minutes before the limit: the running trials are told to be cut off
wait "$driver"
