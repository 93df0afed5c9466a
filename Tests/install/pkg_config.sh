#!/usr/bin/env bash
# Builds a program with what pkg-config says of the installed library, and runs it.
# pkg_config.sh PREFIX SOURCE PKG_CONFIG VERSION COMPILER STANDARD
set -euo pipefail
prefix=$1 source=$2 pkg_config=$3 version=$4 compiler=$5 standard=$6

PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name layernorm.pc)")
export PKG_CONFIG_PATH
found=$("$pkg_config" --modversion layernorm)
if [ "$found" != "$version" ]; then
  echo "layernorm.pc says version $found, not $version"
  exit 1
fi
library_path=$("$pkg_config" --variable=libdir layernorm)
read -ra flags <<<"$("$pkg_config" --cflags --libs layernorm)"
program=$(mktemp)
trap 'rm -f "$program"' EXIT
"$compiler" "-std=$standard" -Wall -Wextra -Wpedantic -Werror -o "$program" "$source" "${flags[@]}"
LD_LIBRARY_PATH=$library_path "$program"
