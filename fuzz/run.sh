#!/usr/bin/env bash
# Fuzzes each target for some minutes, one after the other, on one core and politely. Stops at the first finding.
#   fuzz/run.sh [MINUTES] [TARGET…]
set -euo pipefail
cd "$(dirname "$0")"
minutes=${1:-1}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(basename --suffix .rs --multiple targets/*.rs)
# Coverage is a matter of the compiler's unstable flags; the code is safe Rust, so no sanitizer is needed.
export RUSTC_BOOTSTRAP=1
for target in "${targets[@]}"; do
    echo "== $target, $minutes min"
    mkdir -p "corpus/$target"
    nice -n 19 cargo fuzz run --fuzz-dir . --sanitizer none "$target" "corpus/$target" "seeds/$target" -- \
        -max_total_time=$((minutes * 60)) -max_len=4096 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1
done
