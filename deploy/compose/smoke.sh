#!/usr/bin/env bash
# Brings the stack up and waits until tidemark is healthy and follows the sample data; then ends it, in time.
set -euo pipefail
cd "$(dirname "$0")/../.."
trap 'docker compose logs --tail 30; docker compose down --volumes' EXIT
docker compose up --detach --no-build tidemark sample

follows() {
  local status
  status=$(curl --silent --max-time 2 http://127.0.0.1:9464/status || true)
  [ "$(jq '[.streams[]? | select(.phase == "streaming" and .events_applied > 0)] | length' <<< "${status:-null}")" = 2 ]
}
healthy() {
  docker compose ps tidemark | grep --fixed-strings --quiet "(healthy)"
}

for _ in $(seq 60); do
  if follows && healthy; then
    begun=$(date +%s)
    docker compose stop tidemark
    [ $(($(date +%s) - begun)) -lt 10 ]
    echo "followed and stopped in time"
    exit 0
  fi
  sleep 5
done
echo "not healthy, or both streams did not follow, within five minutes"
exit 1
