#!/usr/bin/env bash
# The chart as Helm and a cluster's API would take it: linted, rendered bare and with everything on, each manifest held against
# Kubernetes' own schemas, and what the values' schema must refuse. Needs helm, and kubernetes-validate (PyPI).
set -euo pipefail
cd "$(dirname "$0")"
chart=tidemark
all=$chart/ci/values.yaml
rendered=$(mktemp -d)
trap 'rm -rf "$rendered"' EXIT

helm lint --strict --values "$all" "$chart"
for version in 1.27 1.31 1.34; do
  render() { helm template house "$chart" --namespace follow --kube-version "$version" "$@"; }
  # The operator's two kinds are its own; the rules among them are those that promtool has looked at.
  render --values "$all" --set serviceMonitor.enabled=false --set prometheusRule.enabled=false > "$rendered/all.yaml"
  render --set image.repository=registry.example/tidemark --set config='service = "a"' > "$rendered/bare.yaml"
  kubernetes-validate --strict --kubernetes-version "$version" "$rendered/all.yaml" "$rendered/bare.yaml"
done

refused() {
  if helm template house "$chart" --values "$all" "$@" > /dev/null 2>&1; then
    echo "taken, and should be refused: $*"
    exit 1
  fi
}
refused --set replicas=two
refused --set replica=3
refused --set image.digest=latest
refused --set config=
refused --set image.repository=
refused --set secret.name=
refused --set networkPolicy.egressPorts='{0}'
echo "the chart is as it should be"
