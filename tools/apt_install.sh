#!/usr/bin/env bash
# Install packages of Debian or Ubuntu, if that can be done without asking anything; else name those
# that are missing, in one line.
#
#     tools/apt_install.sh [--install-recommends] PACKAGE...
set -uo pipefail

recommended=--no-install-recommends
if [[ $1 == --* ]]; then
  recommended=$1
  shift
fi

missing=()
for package in "$@"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null)" = installed ] \
    || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get > /dev/null; then
  echo "Missing on this machine, by the names of Debian's packages: ${missing[*]}" >&2
  exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  as_root=(sudo -n)
  if ! sudo -n true 2> /dev/null; then
    echo "Missing on this machine. Install with: sudo apt-get install ${missing[*]}" >&2
    exit 1
  fi
fi
echo "apt-get install ${missing[*]}"
options=(-qq -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0)
# Lists that are a little old are better than none, as when one of many archives cannot be reached.
"${as_root[@]}" apt-get "${options[@]}" update || true
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get "${options[@]}" install --yes $recommended "${missing[@]}" > /dev/null && exit 0
echo "apt-get could not install ${missing[*]}; the lines above say why" >&2
exit 1
