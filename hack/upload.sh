#!/usr/bin/env bash
#
# Upload a model from this machine to the bucket of a cluster, without installing anything but podman (or docker):
#
#   cd ~/Downloads
#   ~/model-syncer/hack/upload.sh aligned-model/
#
# A slash at the end means what is in the folder, none means the folder itself. Paths and options are those of
# `syncer upload`, which runs in the container; docs/upload.md explains them all. The container sees the current
# directory and the kubeconfig, both read-only, and nothing else of this machine.
#
#   --namespace demo, --secret demo-models   the data connection that says where to
#   --wait 10m         how long to wait for it
#   --finish           at the end create the Secret that lets the Job complete
#   --dest-endpoint    another address of the bucket than the cluster tells
#   -f                 copy every file, also over those that are there and not ours
#
#   CONTAINER_ENGINE   podman or docker; else whichever is there
#   SYNCER_IMAGE       an image to use instead of building one from this repository
#   SYNCER_BASE_IMAGE  the base to build on, where the usual one cannot be pulled
#   KUBECONFIG         as for oc and kubectl
#   AWS_*, S3_SYNC_*, HTTP_PROXY, HTTPS_PROXY, NO_PROXY   are passed on
#
# Works with the bash 3.2 of macOS: no associative arrays, and no empty array is ever expanded.
set -euo pipefail
unset CDPATH # `cd` would print where it went, and go elsewhere

readonly BUILT_IMAGE=localhost/model-syncer:upload
readonly CONFIGURATION=78 # sysexits.h, as syncer itself has it

fail() { # message hint
  printf 'error: %s\nhint:  %s\n' "$1" "$2" >&2
  exit "$CONFIGURATION"
}

usage() {
  sed -n '/^# Upload/,/^# Works/ { /^# Works/d; s/^# \{0,1\}//; p; }' "$1"
}

# The folder that this file really lies in, also when it is called by a link.
own_folder() {
  local file=${BASH_SOURCE[0]} folder target
  while [ -L "$file" ]; do
    folder=$(cd -- "$(dirname -- "$file")" && pwd -P)
    target=$(readlink -- "$file")
    case $target in
      /*) file=$target ;;
      *) file=$folder/$target ;;
    esac
  done
  cd -- "$(dirname -- "$file")" && pwd -P
}

find_engine() {
  local name
  if [ -n "${CONTAINER_ENGINE:-}" ]; then
    command -v -- "$CONTAINER_ENGINE" >/dev/null 2>&1 ||
      fail "CONTAINER_ENGINE names $CONTAINER_ENGINE, which is not installed" "unset it, or set it to podman or docker"
    printf '%s\n' "$CONTAINER_ENGINE"
    return
  fi
  for name in podman docker; do
    if command -v "$name" >/dev/null 2>&1; then
      printf '%s\n' "$name"
      return
    fi
  done
  fail "neither podman nor docker is installed" \
    "install podman; or without a container: make -C '$repository' install, then '$repository/.venv/bin/syncer' upload ..."
}

# One field of --mount, which is a line of CSV: commas and quotes in a path would be something else otherwise.
field() { # name value
  local quote='"'
  case $2 in
    *[,\"]*) printf '"%s=%s"' "$1" "${2//$quote/$quote$quote}" ;;
    *) printf '%s=%s' "$1" "$2" ;;
  esac
}

mount_read_only() { # here there
  command+=(--mount "type=bind,$(field source "$1"),$(field target "$2"),readonly")
}

absolute() { # path [folder that it is relative to]
  case $1 in
    /*) printf '%s\n' "$1" ;;
    *) printf '%s/%s\n' "${2:-$here}" "$1" ;;
  esac
}

# The current directory has the same name inside where nothing of the image can be in its way: then what is uploaded
# has the same name with and without a container.
place_inside() {
  case $here/ in
    /home/?*/* | /Users/?*/* | /mnt/?*/* | /media/?*/* | /srv/?*/* | /data/?*/* | /Volumes/?*/*) printf '%s\n' "$here" ;;
    //) printf '/upload\n' ;;
    *) printf '/upload%s\n' "$here" ;;
  esac
}

# A path as it is called from the current directory; one that does not lie there cannot be seen by the container.
from_here() {
  local start
  case $1 in
    /*) ;;
    *)
      printf '%s\n' "$1"
      return
      ;;
  esac
  for start in "$here" "$PWD"; do
    case $1 in
      "$start") printf '.\n' && return ;;
      "${start%/}"/*) printf './%s\n' "${1#"${start%/}"/}" && return ;;
    esac
  done
  fail "$1 does not lie in the current directory or below it" "cd to the folder that holds it and name it from there"
}

build() {
  printf 'Building/updating image.\n' >&2
  local arguments=(build --quiet --tag "$BUILT_IMAGE" --file Containerfile) name
  for name in PIP_INDEX_URL PIP_CERT; do
    if [ -n "${!name:-}" ]; then arguments+=(--build-arg "$name"); fi
  done
  # A file of this machine is not there inside of a build; docker has no such option, its base needs the file itself.
  if [ "$flavour" = podman ] && [ -f "${PIP_CERT:-}" ]; then arguments+=(--volume "$PIP_CERT:$PIP_CERT:ro"); fi
  if [ -n "${SYNCER_BASE_IMAGE:-}" ]; then arguments+=(--build-arg "BASE_IMAGE=$SYNCER_BASE_IMAGE"); fi
  # Only what the image is made of, whatever else lies in the repository: docker does not read .containerignore. The
  # variable keeps the `._` files out that the tar of macOS makes of what was downloaded.
  (
    cd -- "$repository"
    if [ "$flavour" = docker ]; then
      COPYFILE_DISABLE=1 tar -cf - Containerfile LICENSE README.md entrypoint.py pyproject.toml requirements.lock syncer |
        "$engine" "${arguments[@]}" - >/dev/null
    else
      "$engine" "${arguments[@]}" . >/dev/null
    fi
  ) || fail "the image cannot be built" "its output is above; SYNCER_IMAGE names one that is built already"
}

pull() {
  "$engine" image inspect "$1" >/dev/null 2>&1 && return
  printf 'Pulling image.\n' >&2
  "$engine" pull "$1" >&2 || fail "the image $1 cannot be pulled" "check SYNCER_IMAGE; unset it to build one"
}

# The kubeconfig files and those beside them that they name, read-only, and KUBECONFIG as it is called inside.
mount_kubeconfig() {
  local listed=${KUBECONFIG:-${HOME:-/nonexistent}/.kube/config} inside='' number=0 path named
  while [ -n "$listed" ]; do
    path=${listed%%:*}
    listed=${listed#"$path"}
    listed=${listed#:}
    if [ -z "$path" ]; then continue; fi
    path=$(absolute "$path")
    if [ ! -f "$path" ]; then
      # Named as it is called here, so that the error about it makes sense.
      if [ -n "${KUBECONFIG:-}" ]; then inside=${inside:+$inside:}$path; fi
      continue
    fi
    number=$((number + 1))
    mount_read_only "$path" "/kube/$number/config"
    inside=${inside:+$inside:}/kube/$number/config
    while IFS= read -r named; do
      case $named in
        '') ;;
        /*) if [ -f "$named" ]; then mount_read_only "$named" "$named"; fi ;;
        *)
          if [ -f "$(dirname -- "$path")/$named" ]; then
            mount_read_only "$(dirname -- "$path")/$named" "/kube/$number/$named"
          fi
          ;;
      esac
    done <<EOF
$(files_named_in "$path" | sort -u)
EOF
  done
  if [ -n "$inside" ]; then command+=(--env "KUBECONFIG=$inside"); fi
}

files_named_in() { # kubeconfig
  sed -n -E \
    -e 's/^[[:space:]-]*"?(certificate-authority|client-certificate|client-key|tokenFile)"?:[[:space:]]*//' \
    -e 't found' -e d -e ':found' \
    -e 's/[[:space:],]*$//' -e "s/^\"(.*)\"\$/\\1/" -e "s/^'(.*)'\$/\\1/" -e p "$1"
}

# By name alone, so that no value is in the list of processes. A file that a variable names comes along.
pass_environment() {
  local name
  while IFS= read -r name; do
    case $name in
      AWS_PROFILE | AWS_DEFAULT_PROFILE | AWS_CONFIG_FILE | AWS_SHARED_CREDENTIALS_FILE) ;; # files of this machine
      AWS_CA_BUNDLE | SSL_CERT_FILE | AWS_*_FILE | S3_SYNC_*_FILE)
        if [ -f "${!name}" ]; then
          mount_read_only "$(absolute "${!name}")" "/files/$name"
          command+=(--env "$name=/files/$name")
        elif [ -n "${!name}" ]; then
          command+=(--env "$name")
        fi
        ;;
      AWS_* | S3_SYNC_* | HTTP_PROXY | HTTPS_PROXY | NO_PROXY | http_proxy | https_proxy | no_proxy | NO_COLOR)
        command+=(--env "$name")
        ;;
    esac
  done <<EOF
$(compgen -e)
EOF
}

repository=$(cd -- "$(own_folder)/.." && pwd -P)
here=$(pwd -P)

# Paths are made relative, options are passed on as they are.
options=(upload)
paths=(--)
only_paths=false
while [ $# -gt 0 ]; do
  argument=$1
  shift
  if [ "$only_paths" = true ]; then
    paths+=("$(from_here "$argument")")
    continue
  fi
  case $argument in
    --) only_paths=true ;;
    -h | --help)
      usage "$repository/hack/upload.sh"
      exit 0
      ;;
    -n | --namespace | --secret | --wait | --finish-secret | -d | --dest-endpoint | --dest-region | \
      --max-threads-per-file | --max-files | --chunk-size)
      if [ $# -eq 0 ]; then fail "$argument needs a value" "upload.sh --help says more"; fi
      options+=("$argument" "$1")
      shift
      ;;
    -?*) options+=("$argument") ;;
    *) paths+=("$(from_here "$argument")") ;;
  esac
done
if [ ${#paths[@]} -eq 1 ]; then
  fail "nothing to upload is named" "for example: upload.sh aligned-model/ (upload.sh --help says more)"
fi

engine=$(find_engine)
# What calls itself docker may be podman.
flavour=docker
case $("$engine" --version 2>/dev/null || true) in
  *podman*) flavour=podman ;;
esac

image=${SYNCER_IMAGE:-$BUILT_IMAGE}
if [ -n "${SYNCER_IMAGE:-}" ]; then pull "$image"; else build; fi

# The host's network, because that is where the cluster can be reached from: its VPN, its proxy, its localhost.
command=("$engine" run --rm --network host --read-only --tmpfs /tmp --cap-drop ALL
  --security-opt no-new-privileges --security-opt label=disable)
# As the user, who can read these files, and whom the container then has no more rights than.
user=$(id -u):$(id -g)
if [ "$flavour" = podman ]; then
  if [ "$("$engine" info --format '{{.Host.Security.Rootless}}' 2>/dev/null)" = true ]; then
    command+=(--userns keep-id)
  fi
else
  case $("$engine" info --format '{{.SecurityOptions}}' 2>/dev/null || true) in
    *name=rootless*) user=0:0 ;; # this is the user then, and every other number somebody else
  esac
fi
command+=(--user "$user")
if [ -t 0 ] && [ -t 1 ] && [ -t 2 ]; then command+=(--interactive --tty); fi
inside=$(place_inside)
mount_read_only "$here" "$inside"
command+=(--workdir "$inside")
mount_kubeconfig
pass_environment

exec "${command[@]}" "$image" "${options[@]}" "${paths[@]}"
