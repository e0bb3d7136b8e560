#!/usr/bin/env bash
# Write requirements/*.txt, with a version and hashes of each package, from what requirements/*.in
# ask for.
#
#     tools/lock_requirements.sh              after an .in file has changed
#     tools/lock_requirements.sh --upgrade    with newer versions, where the .in files allow them
set -euo pipefail
cd "$(dirname "$0")/../requirements"
options=("$@")

lock() {  # NAME OPTIONS...
  local name=$1 package left_out=()
  shift
  echo "-- $name.txt"
  # ros-DISTRO-NAME only says which version of ros-NAME belongs to a distribution, and `colcon test`,
  # which is not used here, would need a second set of test tools.
  for package in $(grep --only-matching --no-filename '^ros-\(jazzy\|kilted\)-[a-z0-9-]*' "$name.in") \
      $([[ $name == test ]] || echo pytest pytest-cov pytest-repeat pytest-rerunfailures coverage \
        exceptiongroup iniconfig pluggy pygments); do
    left_out+=(--no-emit-package "$package")
  done
  # For every Python from 3.10 and every processor at once; the hashes are of all files of a release.
  # pyproject.toml has what is left out.
  uv pip compile --quiet --universal --python-version 3.10 --no-python-downloads --generate-hashes \
    --custom-compile-command tools/lock_requirements.sh \
    "${left_out[@]}" "${options[@]}" "$@" --output-file "$name.txt" "$name.in"
}

lock pip
lock numpy
lock build --constraint numpy.txt
# numpy is the one that ROS was built with: that of numpy.txt, or the system's.
lock runtime --constraint build.txt --no-emit-package numpy
lock echo --no-emit-package numpy
lock test --constraint build.txt --constraint runtime.txt --no-emit-package numpy
for file in ros-*.in; do
  lock "${file%.in}" --constraint runtime.txt --constraint test.txt
done
