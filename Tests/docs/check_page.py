#!/usr/bin/env python3
"""Runs an example, and checks that a page shows its source and what it prints.

check_page.py PAGE LANGUAGE SOURCE COMMAND...
"""

import subprocess
import sys
from pathlib import Path


def main():
    page, language, source, *command = sys.argv[1:]
    text = Path(page).read_text()
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    print(printed, end="")
    for kind, block in (language, Path(source).read_text()), ("text", printed):
        if f"```{kind}\n{block}```\n" not in text:
            sys.exit(f"error: {page} does not show, as {kind}:\n{block}")


if __name__ == "__main__":
    main()
