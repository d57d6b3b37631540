#!/usr/bin/env bash
# What a cluster's head runs: the study, in the shared folder, on the cluster the head belongs to.
#   STUDY   a space or study file, or a shipped space's name     DATA   a folder all nodes see
set -euo pipefail
export RAY_ADDRESS="${RAY_ADDRESS:-auto}"
cd "${SHARED:-/shared}"
exec starsearch run "${STUDY:-starnet}" ${DATA:+--data "$DATA"} ${RUNNER:+--runner "$RUNNER"} --out studies
