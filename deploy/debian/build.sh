#!/usr/bin/env bash
# The Debian package of target/release/tidemark, which is there already: deploy/debian/build.sh [FOLDER].
# Needs cargo-deb and dpkg-dev. What the binary says of itself (manual pages, completions, the schema) goes in with it.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-target/debian}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
parts=target/debian-parts
rm -rf "$parts"
mkdir -p "$parts" "$out"
tidemark=target/release/tidemark
"$tidemark" man --out "$parts/man" > /dev/null
for shell in bash fish zsh; do "$tidemark" completions "$shell" > "$parts/completion.$shell"; done
"$tidemark" schema > "$parts/tidemark.schema.json"
# The form that Debian's tools read; what has changed stands in CHANGELOG.md, which is in the package, too.
seconds=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
cat > "$parts/changelog" << END
tidemark ($version-1) stable; urgency=medium

  * Release $version: see CHANGELOG.md.

 -- tidemark's maintainers <tidemark@localhost>  $(LC_ALL=C date --utc --rfc-email --date "@$seconds")
END
SOURCE_DATE_EPOCH=$seconds cargo deb --no-build --strip --output "$out"
