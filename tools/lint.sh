#!/usr/bin/env bash
# Run every linter; go on after a failure and end with a list of those that failed.
set -u
folders=()
for folder in voxtral_ros scripts tools test launch bench training examples; do
  [ -d "$folder" ] && folders+=("$folder")
done
failed=()

check() {
  echo "-- $*"
  "$@" || failed+=("$1")
}

for command in ament_copyright ament_lint_cmake ament_xmllint; do
  if ! command -v "$command" > /dev/null; then
    echo "$command is missing: sudo apt-get install" \
      'python3-ament-copyright python3-ament-lint-cmake python3-ament-xmllint' >&2
    exit 1
  fi
done

check ruff check .
check mypy
check ament_flake8 "${folders[@]}" setup.py
check ament_pep257 "${folders[@]}" setup.py
check ament_copyright "${folders[@]}" setup.py CMakeLists.txt
check ament_lint_cmake CMakeLists.txt test/overlays
check ament_xmllint package.xml examples test/overlays

if [ ${#failed[@]} -gt 0 ]; then
  echo "failed: ${failed[*]}" >&2
  exit 1
fi
echo 'all linters are content'
