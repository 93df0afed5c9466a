#!/usr/bin/env bash
# Builds the tests of layernorm.hpp, without a warning, and runs them.
# build_and_run.sh PROGRAM COMPILER FLAGS...
set -euo pipefail
program=$1 compiler=$2
shift 2
sources=$(dirname "$0")

"$compiler" -Wall -Wextra -Wpedantic -Wconversion -Werror -o "$program" "$sources"/*.cpp "$@"
"$program"
