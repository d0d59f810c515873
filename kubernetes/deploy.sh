#!/usr/bin/env bash
# Deploys the suite to a Kubernetes cluster, or removes it. You can run it again at any time.
#
#   kubernetes/deploy.sh --context NAME [--overlay local|scale|cloud|source] [--images load] [--timeout SECONDS]
#   kubernetes/deploy.sh --context NAME --delete [--delete-volumes]
#
# Without --context, it asks whether to use the current one. --images load copies the images that compose builds into a
# local cluster of kind, k3d, or minikube. Everything that can prevent a deployment is checked before the first change.
set -euo pipefail
unset CDPATH # cd would search it first
cd -- "$(dirname -- "$0")/.."

label=app.kubernetes.io/part-of=mythical-beasts
# The kinds of objects that deploy.sh creates in a namespace, except volume claims.
kinds=deployments,statefulsets,services,configmaps,secrets,serviceaccounts,networkpolicies,poddisruptionbudgets,horizontalpodautoscalers

context='' overlay=local images='' timeout=600 delete=no volumes=no

main() {
  options "$@"
  command -v kubectl >/dev/null || fail "kubectl is not installed; install it (https://kubernetes.io/docs/tasks/tools)"
  choose_context
  reach_cluster
  if [ $delete = yes ]; then
    remove
    return
  fi
  render
  check_values
  check_namespaces
  check_permissions
  check_volumes
  check_size
  [ -z "$images" ] || load_images
  check_images
  check_changes
  deploy
}

options() {
  while [ $# -gt 0 ]; do
    case $1 in
      --context | --overlay | --images | --timeout)
        [ $# -ge 2 ] || fail "$1 needs a value; see the top of kubernetes/deploy.sh"
        case $1 in
          --context) context=$2 ;;
          --overlay) overlay=$2 ;;
          --images) images=$2 ;;
          --timeout) timeout=$2 ;;
        esac
        shift ;;
      --delete) delete=yes ;;
      --delete-volumes) volumes=yes ;;
      *) fail "unknown option '$1'; see the top of kubernetes/deploy.sh" ;;
    esac
    shift
  done
  [ -e "kubernetes/overlays/$overlay/kustomization.yaml" ] ||
    fail "--overlay $overlay does not exist; use one of: $(cd kubernetes/overlays && echo *)"
  [[ $images =~ ^(load)?$ ]] || fail "--images $images is unknown; use --images load, or leave it out"
  [[ $timeout =~ ^[1-9][0-9]*$ ]] || fail "--timeout $timeout is not a number of seconds, such as 600"
  [ $delete = yes ] || [ $volumes = no ] || fail "--delete-volumes needs --delete"
}

# --- The cluster ----------------------------------------------------------------------------------------------------

choose_context() {
  local current answer known
  if [ -z "$context" ]; then
    current=$(kubectl config current-context 2>/dev/null) ||
      fail "no context is set; create a cluster (kind create cluster), or name one: --context NAME"
    [ -t 0 ] || fail "the cluster is not named; to use the current one, add: --context $current"
    read -r -p "Use the context $current? [y/N] " answer
    [[ $answer =~ ^[Yy] ]] || fail "nothing was changed; name the cluster: --context NAME"
    context=$current
  fi
  known=$(kubectl config get-contexts -o name 2>/dev/null)
  grep -qxF -- "$context" <<<"$known" || fail "there is no context $context; known: $(paste -sd ' ' - <<<"$known")"
}

k() { kubectl --context "$context" --request-timeout=30s "$@"; }

reach_cluster() {
  local answer minor
  answer=$(kubectl --context "$context" --request-timeout=10s get --raw /version 2>&1) ||
    fail "the cluster of $context does not answer ($(tail -n 1 <<<"$answer" | cut -c 1-160)); start it, or choose another context"
  minor=$(sed -n 's/.*"minor": *"\([0-9]*\).*/\1/p' <<<"$answer")
  [ "${minor:-99}" -ge 30 ] || fail "the cluster has Kubernetes 1.$minor, which does not know preStop.sleep; upgrade it to 1.30 or later"
}

render() {
  rendered=$(kubectl kustomize "kubernetes/overlays/$overlay" 2>&1) ||
    fail "the overlay $overlay does not build: $(tail -n 1 <<<"$rendered")"
  namespaces=$(awk '/^kind: Namespace$/ {found = 1} found && /^  name: / {print $2; found = 0}' <<<"$rendered")
}

check_values() { # placeholders that the user has to replace
  local file=kubernetes/overlays/$overlay/cloud.env
  [ "$overlay" != source ] || file=kubernetes/overlays/source/target.env
  if [ -e "$file" ] && grep -q '=<' "$file"; then
    fail "$file has placeholders; replace $(sed -n 's/.*=\(<.*>\)/\1/p' "$file" | paste -sd ' ' -)"
  fi
  if [ "$overlay" = cloud ] && grep -q '"<' alloy/endpoints-cloud.json; then
    fail "alloy/endpoints-cloud.json has placeholders; replace <metricsUrl> and the others with the URLs of your stack"
  fi
}

check_namespaces() {
  local name found
  existing=()
  for name in $namespaces; do
    found=$(k get namespace "$name" --ignore-not-found -o \
      'jsonpath={.status.phase} {.metadata.name} {.metadata.labels.app\.kubernetes\.io/part-of} {.metadata.labels.mythical-beasts/overlay}' 2>&1) ||
      fail "the namespace $name cannot be read: $(tail -n 1 <<<"$found"); use an account that may"
    [[ $found != Terminating* ]] ||
      fail "the namespace $name is being deleted; wait until it is gone: kubectl --context $context get namespace $name"
    [ -z "$found" ] || existing+=("$name")
    case ${found#* } in
      # The third: its volumes are left from an earlier deployment.
      '' | "$name mythical-beasts $overlay" | "$name mythical-beasts ") ;;
      "$name mythical-beasts "*) fail "the overlay ${found##* } is deployed; remove it first: kubernetes/deploy.sh --context $context --delete" ;;
      *) fail "the namespace $name exists and is not of this suite; rename or delete it, or use another cluster" ;;
    esac
  done
}

check_permissions() {
  local what missing=()
  # Each kind with its group, such as deployment.apps.
  for what in $(awk '/^apiVersion: / {group = $2 ~ "/" ? "." $2 : ""; sub("/.*", "", group)} /^kind: / {print tolower($2) group}' <<<"$rendered" | sort -u); do
    k auth can-i create "$what" --namespace mythical --quiet 2>/dev/null || missing+=("$what")
  done
  [ ${#missing[@]} -eq 0 ] ||
    fail "RBAC does not allow the user of $context to create ${missing[*]}; use an administrator of the cluster"
}

check_volumes() {
  local default claims
  default=$(k get storageclass -o 'jsonpath={range .items[*]}{.metadata.annotations.storageclass\.kubernetes\.io/is-default-class}{"\n"}{end}')
  claims=$(k get persistentvolumeclaims --all-namespaces -l $label -o name)
  grep -qx true <<<"$default" || [ -n "$claims" ] ||
    fail "the cluster has no default storage class, which the volumes of Postgres and RabbitMQ need; mark one with the annotation storageclass.kubernetes.io/is-default-class=true"
}

check_size() { # requests of all pods against what the nodes have, less the requests of pods in other namespaces
  local need have
  local units='
    function milli(v) { return v ~ /m$/ ? v + 0 : v * 1000 }
    function mebi(v) { return v ~ /Ki$/ ? v / 1024 : v ~ /Mi$/ ? v + 0 : v ~ /Gi$/ ? v * 1024 : v / 1048576 }'
  need=$(awk "$units"'
    /^kind: / { kind = $2 }
    /^  name: / { name = kind $2; replicas[name] = 1 }
    /^  (minR|r)eplicas: / { replicas[name] = $2 }
    # The autoscaler has the replicas of its target.
    /^  scaleTargetRef:/ { target = 1 }
    target && /^    kind: / { of = $2 }
    target && /^    name: / { replicas[of $2] = replicas[name]; target = 0 }
    /^ +requests:$/ { inside = 1; next }
    inside && $1 == "cpu:" { gsub(/"/, "", $2); cpu[name] += milli($2); next }
    inside && $1 == "memory:" { memory[name] += mebi($2); next }
    { inside = 0 }
    END {
      for (name in cpu) { c += cpu[name] * replicas[name]; m += memory[name] * replicas[name] }
      print int(c), int(m)
    }' <<<"$rendered")
  have=$({
    k get nodes -o 'jsonpath={range .items[*]}{.status.allocatable.cpu}/{.status.allocatable.memory}{"\n"}{end}'
    k get pods --all-namespaces --field-selector \
      metadata.namespace!=mythical,metadata.namespace!=monitoring-stack,status.phase!=Succeeded,status.phase!=Failed \
      -o 'jsonpath={range .items[*].spec.containers[*]}{"-/"}{.resources.requests.cpu}/{.resources.requests.memory}{"\n"}{end}'
  } | awk -F / "$units"'
    $1 == "-" { cpu -= milli($2); memory -= mebi($3); next }
    { cpu += milli($1); memory += mebi($2) }
    END { print int(cpu), int(memory) }')
  [ "${need% *}" -le "${have% *}" ] ||
    fail "the cluster is too small: the overlay $overlay requests ${need% *} m of CPU, the nodes have ${have% *} m free; add a node or use a smaller overlay"
  [ "${need#* }" -le "${have#* }" ] ||
    fail "the cluster is too small: the overlay $overlay requests ${need#* } MiB of memory, the nodes have ${have#* } MiB free; add a node or use a smaller overlay"
}

# What the API server would reject, such as a change of a field that cannot change. It can only try this in namespaces
# that exist; in a new one, the other checks have to suffice.
check_changes() {
  local answer
  [ "${#existing[@]}" -eq "$(wc -w <<<"$namespaces")" ] || return 0
  answer=$(kubectl --context "$context" apply -k "kubernetes/overlays/$overlay" --dry-run=server 2>&1) ||
    fail "the cluster would reject the change ($(grep -v 'dry run' <<<"$answer" | tail -n 1 | sed 's/.*error when [a-z]* "[^"]*": //' | cut -c 1-160)); correct it, or deploy again after: kubernetes/deploy.sh --context $context --delete"
}

# --- Images ---------------------------------------------------------------------------------------------------------

own_images() { sed -n 's/^ *-\{0,1\} *image: \(mythical-.*\)/\1/p' <<<"$rendered" | sort -u; }

load_images() {
  local image
  for image in $(own_images); do
    docker image inspect "$image" >/dev/null 2>&1 ||
      fail "Docker has no image $image; build it: docker compose build mythical-server load"
    case $context in
      kind-*) kind load docker-image "$image" --name "${context#kind-}" ;;
      k3d-*) k3d image import "$image" --cluster "${context#k3d-}" ;;
      minikube*) minikube image load "$image" --profile "$context" ;;
      *) fail "--images load knows kind, k3d, and minikube, not $context; push the images to a registry, and set newName in kubernetes/base/mythical/kustomization.yaml" ;;
    esac || fail "$image was not loaded into $context"
  done
}

check_images() { # those of compose; a node lists its 50 largest images, so with that many the answer is unknown
  local image listed
  listed=$(k get nodes -o 'jsonpath={range .items[*].status.images[*]}{.names}{"\n"}{end}')
  [ "$(wc -l <<<"$listed")" -lt 50 ] || return 0
  for image in $(own_images); do
    grep -qF "/$image\"" <<<"$listed" ||
      fail "no node has the image $image; for a local cluster, add --images load; else push it to a registry, and set newName in kubernetes/base/mythical/kustomization.yaml"
  done
}

# --- Changes --------------------------------------------------------------------------------------------------------

deploy() {
  local begun=$SECONDS namespace workload
  echo "deploying the overlay $overlay to $context"
  kubectl --context "$context" apply -k "kubernetes/overlays/$overlay" | { grep -v unchanged || true; } ||
    fail "the deployment is not complete; after a correction, run the same command again"
  for namespace in $namespaces; do
    for workload in $(k get deployments,statefulsets -n "$namespace" -l $label -o name); do
      if ! kubectl --context "$context" rollout status -n "$namespace" "$workload" --timeout "$((begun + timeout > SECONDS ? begun + timeout - SECONDS : 1))s" >/dev/null 2>&1; then
        explain "$namespace"
        fail "$workload in $namespace is not ready after $((SECONDS - begun)) s; after a correction, run the same command again"
      fi
    done
  done
  echo "all pods are ready after $((SECONDS - begun)) s"
  if [[ $namespaces == *monitoring-stack* ]]; then
    echo "Alloy: kubectl --context $context port-forward -n monitoring-stack svc/alloy 12345:12345   http://localhost:12345"
  fi
  if [[ $rendered == *"image: grafana/grafana"* ]]; then
    echo "Grafana: kubectl --context $context port-forward -n monitoring-stack svc/grafana 3000:3000   http://localhost:3000"
  fi
}

explain() { # one line for each pod that is not ready, with the reason that Kubernetes has
  k get pods -n "$1" -l $label -o 'jsonpath={range .items[*]}{.metadata.name}{"\t"}{range .status.conditions[?(@.status=="False")]}{.message}{" "}{end}{range .status.containerStatuses[*]}{.state.waiting.reason}{" "}{.state.waiting.message}{end}{"\n"}{end}' |
    awk -F '\t' '$2 ~ /[^ ]/ { print "  " $1 ": " substr($2, 1, 300) }' >&2
  k get events -n "$1" --field-selector type=Warning -o 'jsonpath={range .items[*]}{.reason}{": "}{.message}{"\n"}{end}' |
    { grep -E "FailedCreate|FailedScheduling|ProvisioningFailed" || true; } | sort -u | tail -n 3 | sed 's/^/  /' >&2
}

remove() {
  local namespace owner
  for namespace in mythical monitoring-stack; do
    owner=$(k get namespace "$namespace" --ignore-not-found -o "jsonpath={.metadata.labels.app\.kubernetes\.io/part-of}")
    if [ "$owner" != mythical-beasts ]; then continue; fi
    kubectl --context "$context" delete -n "$namespace" "$kinds" -l $label --ignore-not-found --wait | sed "s/^/$namespace: /"
    kubectl --context "$context" wait -n "$namespace" --for=delete pod -l $label --timeout "${timeout}s" >/dev/null
    if [ $volumes = yes ]; then
      kubectl --context "$context" delete -n "$namespace" persistentvolumeclaims -l $label --ignore-not-found --wait
    fi
    remove_empty "$namespace"
  done
  kubectl --context "$context" delete clusterroles,clusterrolebindings -l $label --ignore-not-found
}

remove_empty() { # a namespace with volumes, or with what others put into it, stays
  local all left
  # All kinds that the cluster knows, except what Kubernetes itself keeps in a namespace.
  all=$(k api-resources --namespaced --verbs=list,delete -o name | grep -vE '^(events|endpoints|endpointslices|controllerrevisions)(\.|$)' | paste -sd , -) &&
    left=$(k get -n "$1" "$all" -o name --ignore-not-found) ||
    left='objects that cannot be listed'
  left=$(grep -vxE 'configmap/kube-root-ca.crt|serviceaccount/default' <<<"$left" || true)
  if [ -z "$left" ]; then
    kubectl --context "$context" delete namespace "$1" --wait
  else
    kubectl --context "$context" label namespace "$1" mythical-beasts/overlay- >/dev/null
    echo "the namespace $1 stays, because it contains: $(paste -sd ' ' - <<<"$left")"
  fi
}

fail() {
  echo "kubernetes/deploy.sh: $*" >&2
  exit 2
}

main "$@"
