#!/usr/bin/env bash
# Every image that this repository builds on or runs is named by digest, beside its tag.
#   deploy/pin-images.sh          asks the registries what the tags mean today, and writes it
#   deploy/pin-images.sh --check  asks nobody; fails, and names them, if any has no digest
set -euo pipefail
cd "$(dirname "$0")/.."
files=(Dockerfile docker-compose.yml)

# Our own images are built here; a stage of the Dockerfile and an ARG are not images.
named() {
  sed --quiet --regexp-extended \
    -e 's/^ARG BUILDER=(.*)$/\1/p' \
    -e 's/^FROM ([^ $]*[:@\/][^ ]*).*$/\1/p' \
    -e 's/^ *image: ([^ ]*).*$/\1/p' "${files[@]}" \
    | grep --extended-regexp --invert-match '^tidemark(-fakes)?:dev$' | sort --unique
}

if [ "${1:-}" = --check ]; then
  pinned='^[^@ ]+:[^@ ]+@sha256:[0-9a-f]{64}$'
  loose=$(named | grep --extended-regexp --invert-match "$pinned" || true)
  [ -z "$loose" ] || { printf 'not named by tag and digest:\n%s\n' "$loose"; exit 1; }
  exit 0
fi
named | while read -r image; do
  tag=${image%@*}
  digest=$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$tag" < /dev/null)
  [[ $digest =~ ^sha256:[0-9a-f]{64}$ ]] || { echo "no digest for $tag"; exit 1; }
  echo "$tag@$digest"
  sed --in-place "s|\([ =]\)$image\$|\1$tag@$digest|" "${files[@]}"
done
