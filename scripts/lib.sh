# shellcheck shell=bash
# Shared by the scripts beside it: how they speak, become root, and install Debian packages.
# Source it; it does nothing by itself.

# Colour only for a person at a terminal who has not asked for none (NO_COLOR).
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
  green=$'\e[32m' red=$'\e[31m' dim=$'\e[2m' plain=$'\e[0m'
else
  green='' red='' dim='' plain=''
fi

# Milliseconds, without a process and independent of the locale's decimal point.
now_ms() {
  local now=${EPOCHREALTIME/[.,]/}
  printf '%s' "$((now / 1000))"
}

# `begin` marks the start of a step, `tick TEXT` ends it with its time.
begin() { step_began_ms=$(now_ms); }
tick() {
  local took_ms=$(($(now_ms) - step_began_ms))
  printf '%s✔%s %s %s(%d.%01d s)%s\n' "$green" "$plain" "$1" "$dim" "$((took_ms / 1000))" "$((took_ms % 1000 / 100))" "$plain"
}
note() { printf '%s· %s%s\n' "$dim" "$1" "$plain"; }

# The first line of an error says what to do next; further lines are detail.
fail() {
  printf '%s✘ %s%s\n' "$red" "$1" "$plain" >&2
  shift
  local line
  for line in "$@"; do printf '  %s\n' "$line" >&2; done
  exit 1
}

# Runs a command as root, through sudo for anybody else.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null 2>&1; then
    sudo "$@"
  else
    fail "Run this as root, or install sudo: '$*' needs root."
  fi
}

# Installs Debian packages; quiet when all is well, the tail of apt's own words when not.
install_packages() {
  command -v apt-get >/dev/null 2>&1 ||
    fail "Install these with your package manager, then try again: $*" "This machine has no apt-get; only Debian and its relatives are prepared automatically."
  local log
  log=$(mktemp)
  if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" </dev/null >"$log" 2>&1; then
    # The usual reason on a fresh machine is that it has no package lists yet.
    if ! { as_root apt-get update && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } </dev/null >"$log" 2>&1; then
      tail -n 15 "$log" >&2
      rm -f "$log"
      fail "Install these packages by hand and try again: $*" "apt-get could not; its last lines are above."
    fi
  fi
  rm -f "$log"
}
