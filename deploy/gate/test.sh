#!/usr/bin/env bash
# Feeds the gate what it must refuse: foreign images, edited files, wrong digests, forged
# attestations. Needs bash, git and jq; `gh` and `docker` are stubs that answer from files and write
# down what they were asked.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
world=$(mktemp -d)
trap 'rm -rf "$world"' EXIT
mkdir -p "$world/bin" "$world/said" "$world/clone/deploy/gate"

cat > "$world/bin/gh" <<'STUB'
#!/usr/bin/env bash
echo "gh $*" >> "$WORLD/asked"
case "$*" in
  *"--jq .head.sha") cat "$WORLD/said/head" ;;
  *"/pulls/7") cat "$WORLD/said/pull" ;;
  *"/pulls/7/files") cat "$WORLD/said/files" ;;
  *"/git/blobs/b10b") cat "$WORLD/said/blob" ;;
  "attestation verify "*)
    known=oci://$(cat "$WORLD/said/attested_image")
    [ "$3" = "$known" ] || { echo "no attestation found" >&2; exit 1; }
    cat "$WORLD/said/attested" ;;
  *"/statuses/"*) ;;
  *) echo "the stub was asked: gh $*" >&2; exit 64 ;;
esac
STUB
cat > "$world/bin/docker" <<'STUB'
#!/usr/bin/env bash
echo "docker $*" >> "$WORLD/asked"
case "$1" in
  login) cat > "$WORLD/token" ;;
  run)
    echo "$TIDEMARK__SOURCE__URI $TIDEMARK__TARGET__URL" > "$WORLD/secrets"
    all=$*
    mounted=${all#*--volume }
    cat "${mounted%%:*}" > "$WORLD/mounted"
    exit "$(cat "$WORLD/said/exit")" ;;
esac
STUB
chmod +x "$world/bin/gh" "$world/bin/docker"

# A clone of main, and a commit that main does not hold.
cp "$here/gate.sh" "$world/clone/deploy/gate/"
cd "$world/clone"
git init --quiet --initial-branch main
git config user.email gate@example.org
git config user.name gate
git config commit.gpgsign false
git commit --quiet --allow-empty --message "without a configuration"
bare=$(git rev-parse HEAD)
mkdir config
echo 'service = "reviewed"' > config/production.toml
git add . && git commit --quiet --message "with one"
reviewed=$(git rev-parse HEAD)
git update-ref refs/remotes/origin/main HEAD
git switch --quiet --create branch
git commit --quiet --allow-empty --message "nobody reviewed this"
unreviewed=$(git rev-parse HEAD)

export PATH="$world/bin:$PATH" WORLD="$world"
export GITHUB_REPOSITORY=Trust/tidemark GH_TOKEN=token-of-the-run
export TIDEMARK__SOURCE__URI=mongodb://gate:source-secret@db/
export TIDEMARK__TARGET__URL=postgres://gate:target-secret@pg/
digest=$(printf 'a%.0s' {1..64})
image=ghcr.io/trust/tidemark@sha256:$digest
head=$(printf 'b%.0s' {1..40})

# Everything in order.
fresh() {
  : > "$world/asked"
  rm -f "$world/mounted" "$world/secrets" "$world/token"
  jq --null-input --arg head "$head" '{state: "open", base: {ref: "deploy/production"},
    head: {sha: $head, repo: {full_name: "Trust/tidemark"}}}' > "$world/said/pull"
  echo "$head" > "$world/said/head"
  files production.json modified
  names "$image" "$reviewed"
  echo "$image" > "$world/said/attested_image"
  attested refs/tags/v1.2.3 "$reviewed"
  echo 0 > "$world/said/exit"
}
names() {
  jq --null-input --arg image "$1" --arg commit "$2" '{image: $image, configuration: $commit}' \
    > "$world/said/blob"
}
files() {
  printf '{"filename": "%s", "status": "%s", "sha": "b10b"}' "$@" | jq --slurp . > "$world/said/files"
}
attested() {
  jq --null-input --arg ref "$1" --arg commit "$2" '[{verificationResult: {signature: {certificate:
    {sourceRepositoryRef: $ref, sourceRepositoryDigest: $commit}}}}]' > "$world/said/attested"
}
pull() {
  jq "$1" "$world/said/pull" > "$world/said/edited" && mv "$world/said/edited" "$world/said/pull"
}

failures=0
verdict() {
  if [ "$1" = ok ]; then echo "ok      $2"; else echo "FAILED  $2"; failures=$((failures + 1)); fi
}
# holds NAME COMMAND…: that the command succeeds.
holds() {
  local name=$1
  shift
  if "$@"; then verdict ok "$name"; else verdict no "$name"; fi
}
gate() { bash deploy/gate/gate.sh "$@" > "$world/out" 2> "$world/err"; }
# refuses NAME REASON ARGUMENT…: says why, and has run nothing.
refuses() {
  local name=$1 reason=$2
  shift 2
  if gate "$@"; then
    verdict no "$name: it was let through"
  elif ! grep --quiet --fixed-strings -- "$reason" "$world/err"; then
    verdict no "$name: $(cat "$world/err")"
  elif grep --quiet "^docker [^l]" "$world/asked"; then
    verdict no "$name: the image was fetched before the refusal"
  else
    verdict ok "$name"
  fi
  fresh
}
fresh

# What a pull request may name.
holds "a pull request in order" gate look 7
expected=$(printf 'head=%s\nimage=%s\nconfiguration=%s' "$head" "$image" "$reviewed")
holds "what it names is told" [ "$(cat "$world/out")" = "$expected" ]
while read -r foreign; do
  names "$foreign" "$reviewed"
  refuses "foreign image $foreign" "the image is not" look 7
done <<IMAGES
docker.io/library/tidemark@sha256:$digest
ghcr.io/trust/tidemark-evil@sha256:$digest
ghcr.io/trust/tidemark/evil@sha256:$digest
ghcr.io/other/tidemark@sha256:$digest
ghcr.io.example.org/trust/tidemark@sha256:$digest
evil.example.org/ghcr.io/trust/tidemark@sha256:$digest
--privileged@sha256:$digest
ghcr.io/trust/tidemark:v1.2.3
ghcr.io/trust/tidemark:v1.2.3@sha256:$digest
ghcr.io/trust/tidemark@sha256:${digest%a}
ghcr.io/trust/tidemark@sha256:${digest}a
ghcr.io/trust/tidemark@sha256:${digest%a}G
ghcr.io/trust/tidemark@sha512:$digest
ghcr.io/trust/tidemark@sha256:$digest@sha256:$digest
ghcr.io/trust/tidemark@sha256:$digest --privileged
IMAGES
names "$image"$'\nhead='"$head" "$reviewed"
refuses "an image with a second line" "does not name one image" look 7
names "$image" "$unreviewed"
refuses "a configuration that main does not hold" "the configuration is not on main" look 7
names "$image" main
refuses "a configuration that is a branch" "is not a commit of 40 digits" look 7
printf '{"image": "evil", "image": "%s", "configuration": "%s"}' "$image" "$reviewed" \
  > "$world/said/blob"
refuses "a key named twice" "names a key twice" look 7
echo ../clone/config/production.toml > "$world/said/blob"
refuses "a link in the file's place" "does not name one image" look 7
printf '{"image": "%s", "configuration": "%s", "command": "run"}' "$image" "$reviewed" \
  > "$world/said/blob"
refuses "another key beside the two" "does not name one image" look 7

# Which files it may change.
while read -r name changed; do
  # shellcheck disable=SC2086 # pairs of name and status
  files $changed
  refuses "$name" "only production.json may change" look 7
done <<'FILES'
the-gate-edited .github/workflows/gate.yml modified
the-gate-edited-beside production.json modified .github/workflows/gate.yml modified
the-gate-added-before .github/workflows/gate.yml added production.json modified
the-script-edited deploy/gate/gate.sh added
the-owners-edited production.json modified .github/CODEOWNERS modified
another-file-renamed-to-it production.json renamed
the-file-removed production.json removed
one-of-that-name-elsewhere config/production.json added
FILES
echo '[]' > "$world/said/files"
refuses "nothing changed" "only production.json may change" look 7

# Whose it may be.
pull '.base.ref = "main"'
refuses "a pull request to another branch" "not one to deploy/production" look 7
pull '.head.repo.full_name = "stranger/tidemark"'
refuses "a pull request of a fork" "from another repository" look 7
pull '.head.repo = null'
refuses "a pull request of a fork that is gone" "from another repository" look 7
pull '.state = "closed"'
refuses "a closed pull request" "is not open" look 7
echo "$unreviewed" > "$world/said/head"
refuses "a push while it is looked at" "was pushed to meanwhile" look 7
refuses "a number that is none" "named by its number" look "7/merge"

# What may be run.
echo "another" > "$world/said/attested_image"
refuses "an image that nobody attests" "not attested by this" check "$image" "$reviewed"
attested refs/heads/evil "$reviewed"
refuses "a branch's release.yml" "not built for a release's tag" check "$image" "$reviewed"
attested refs/tags/v6.6.6 "$unreviewed"
refuses "a tag that main does not hold" "built of is not on main" check "$image" "$reviewed"
echo '[]' > "$world/said/attested"
refuses "an empty answer" "not built for a release's tag" check "$image" "$reviewed"
foreign=ghcr.io/other/tidemark@sha256:$digest
refuses "a foreign image" "the image is not of" check "$foreign" "$reviewed"
refuses "a configuration nobody reviewed" "is not on main" check "$image" "$unreviewed"
refuses "a configuration not there" "holds no config/production.toml" check "$image" "$bare"
GATE_ROLE='x;' refuses "a role that is none" "not the name of a role" check "$image" "$reviewed"
refuses "a command that is none" "not a command of the gate" merge 7
refuses "a verdict that is none" "a verdict is" report "$head" great "https://example.org"

# What is run, and with what.
holds "an image in order is checked" gate check "$image" "$reviewed"
asked() { grep --quiet -- "$1" "$world/asked"; }
not() { ! "$@"; }
holds "the attestation is this repository's release workflow's" \
  asked "--signer-workflow Trust/tidemark/.github/workflows/release.yml --deny-self-hosted"
holds "the very image is run, bare of rights, and proves the daemon's" \
  asked "^docker run .* --read-only --cap-drop ALL .* $image check --role tidemark_daemon"
holds "secrets are passed by name" asked "--env TIDEMARK__SOURCE__URI --env TIDEMARK__TARGET__URL "
holds "no secret on a command line" not asked "-secret\|token-of"
holds "the check has both users" grep --quiet "source-secret.*target-secret" "$world/secrets"
holds "the reviewed configuration is mounted" [ "$(cat "$world/mounted")" = 'service = "reviewed"' ]
fresh
echo 1 > "$world/said/exit"
holds "a check that fails fails the gate" not gate check "$image" "$reviewed"
holds "a verdict is told" gate report "$head" failure https://example.org/run
holds "of the commit that was looked at" \
  asked "^gh api --method POST repos/Trust/tidemark/statuses/$head .*state=failure .*context=gate"

[ "$failures" -eq 0 ] || { echo "$failures failed"; exit 1; }
