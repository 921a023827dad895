#!/usr/bin/env bash
# The gate before production: may the release that a pull request names be run, and does it pass.
#   gate.sh look PULL                  what it names: head=, image=, configuration=; or a refusal
#   gate.sh prove IMAGE                this repository's release workflow made it, of main
#   gate.sh check IMAGE CONFIGURATION  prove, then the image's own `check` against production
#   gate.sh report HEAD STATE URL      the verdict, as commit status `gate` of what was looked at
# It runs from a clone of main: what a pull request holds is data here, never code. It needs git,
# gh, jq and docker, GITHUB_REPOSITORY and GH_TOKEN; for `check` the gate's own two users, in
# TIDEMARK__SOURCE__URI and TIDEMARK__TARGET__URL.
set -euo pipefail
cd "$(dirname "$0")/../.."

repository=${GITHUB_REPOSITORY:?names the repository: OWNER/NAME}
registry=ghcr.io/$(tr '[:upper:]' '[:lower:]' <<< "$repository")
branch=deploy/production
# The role that the daemon logs in as: its rights are proved, by name.
role=${GATE_ROLE:-tidemark_daemon}

refuse() {
  echo "refused: $*" >&2
  exit 1
}

# Of this repository, by digest. No tag can be moved under it, and nothing of another's is fetched.
own_by_digest() {
  [ "${1%@*}" = "$registry" ] || refuse "the image is not of $registry"
  [[ ${1#"$registry"} =~ ^@sha256:[0-9a-f]{64}$ ]] \
    || refuse "the image is not named by digest (@sha256:…)"
}

# Reviewed, because main holds it.
on_main() {
  [[ $1 =~ ^[0-9a-f]{40}$ ]] || refuse "$2 is not a commit of 40 digits"
  git merge-base --is-ancestor "$1" origin/main 2> /dev/null || refuse "$2 is not on main"
}

look() {
  local pull=$1 asked head file blob wanted image configuration
  [[ $pull =~ ^[1-9][0-9]{0,9}$ ]] || refuse "a pull request is named by its number"
  asked=$(gh api "repos/$repository/pulls/$pull")
  jq --exit-status '.state == "open"' <<< "$asked" > /dev/null \
    || refuse "the pull request is not open"
  jq --exit-status --arg branch "$branch" '.base.ref == $branch' <<< "$asked" > /dev/null \
    || refuse "the pull request is not one to $branch"
  jq --exit-status --arg own "$repository" '.head.repo.full_name == $own' <<< "$asked" > /dev/null \
    || refuse "the pull request comes from another repository"
  file=$(gh api "repos/$repository/pulls/$pull/files")
  jq --exit-status 'length == 1 and (.[0] | .filename == "production.json"
    and (.status == "modified" or .status == "added"))' <<< "$file" > /dev/null \
    || refuse "only production.json may change, not $(jq --compact-output 'map(.filename)' <<< "$file")"
  blob=$(jq --raw-output '.[0].sha' <<< "$file")
  # The blob of the change itself: a link's blob is its path, and no JSON.
  wanted=$(gh api --header "Accept: application/vnd.github.raw+json" \
    "repos/$repository/git/blobs/$blob")
  jq --exit-status --slurp 'length == 1 and (.[0] | type == "object"
    and keys == ["configuration", "image"]
    and all(.[]; type == "string" and (test("[^ -~]") | not)))' <<< "$wanted" > /dev/null 2>&1 \
    || refuse "production.json does not name one image and one configuration"
  # Of two equal keys one reader takes the first and another the last.
  [ "$(tr --complement --delete '"' <<< "$wanted" | wc --chars)" -eq 8 ] \
    || refuse "production.json names a key twice"
  image=$(jq --raw-output .image <<< "$wanted")
  configuration=$(jq --raw-output .configuration <<< "$wanted")
  own_by_digest "$image"
  on_main "$configuration" "the configuration"
  # The verdict is told of the head whose files were read.
  head=$(jq --raw-output .head.sha <<< "$asked")
  [ "$head" = "$(gh api "repos/$repository/pulls/$pull" --jq .head.sha)" ] \
    || refuse "the pull request was pushed to meanwhile"
  echo "head=$head"
  echo "image=$image"
  echo "configuration=$configuration"
}

# With a configuration of docker's own, which goes when the script does.
sign_in() {
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  mkdir -m 700 "$scratch/docker"
  export DOCKER_CONFIG="$scratch/docker"
  docker login ghcr.io --username "${GITHUB_ACTOR:-gate}" --password-stdin <<< "$GH_TOKEN" >&2
}

prove() {
  local image=$1 attested commit
  own_by_digest "$image"
  sign_in
  attested=$(gh attestation verify "oci://$image" --repo "$repository" \
    --signer-workflow "$repository/.github/workflows/release.yml" --deny-self-hosted-runners \
    --format json) \
    || refuse "the image is not attested by this repository's release workflow"
  # A branch may hold another release.yml: the one that counts ran for a tag, of a commit on main.
  commit=$(jq --raw-output 'first(.[].verificationResult.signature.certificate
    | select(.sourceRepositoryRef | startswith("refs/tags/v"))
    | .sourceRepositoryDigest) // ""' <<< "$attested")
  [ -n "$commit" ] || refuse "the image was not built for a release's tag"
  on_main "$commit" "the commit that the image was built of"
  echo "built by release.yml of $commit"
}

check() {
  local image=$1 configuration=$2
  : "${TIDEMARK__SOURCE__URI:?of a user of the gate alone}" "${TIDEMARK__TARGET__URL:?as above}"
  [[ $role =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]] || refuse "GATE_ROLE is not the name of a role"
  on_main "$configuration" "the configuration"
  prove "$image"
  # One file, as text: nothing else of the commit reaches the container.
  git show "$configuration:config/production.toml" > "$scratch/production.toml" \
    || refuse "the configuration's commit holds no config/production.toml"
  chmod 755 "$scratch"
  chmod 644 "$scratch/production.toml"
  docker pull --quiet "$image"
  export TIDEMARK__SOURCE__URI TIDEMARK__TARGET__URL
  # Secrets by name: their values stand on no command line.
  docker run --rm --pull never --read-only --cap-drop ALL --security-opt no-new-privileges \
    --user 65532:65532 \
    --env TIDEMARK__ENVIRONMENT=production --env TIDEMARK__SOURCE__URI --env TIDEMARK__TARGET__URL \
    --volume "$scratch/production.toml:/tidemark.d/config/production.toml:ro" \
    "$image" check --role "$role"
}

report() {
  local head=$1 state=$2 url=$3
  [[ $head =~ ^[0-9a-f]{40}$ ]] || refuse "the head is not a commit of 40 digits"
  [[ $state =~ ^(pending|success|failure)$ ]] || refuse "a verdict is pending, success or failure"
  gh api --method POST "repos/$repository/statuses/$head" --silent \
    --field state="$state" --field context=gate --field target_url="$url" \
    --field description="the release's own check against production"
}

case "${1:-} $#" in
  "look 2" | "prove 2" | "check 3" | "report 4") "$@" ;;
  *) refuse "not a command of the gate: see the head of $0" ;;
esac
