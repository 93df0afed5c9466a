#!/usr/bin/env bash
# Builds a C program with what pkg-config says of the installed library, and runs it.
# pkg_config.sh PREFIX SOURCE CC PKG_CONFIG VERSION
set -euo pipefail
prefix=$1 source=$2 cc=$3 pkg_config=$4 version=$5

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
"$cc" -std=c99 -Wall -Wextra -Wpedantic -Werror -o "$program" "$source" "${flags[@]}"
LD_LIBRARY_PATH=$library_path "$program"
