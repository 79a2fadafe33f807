#!/usr/bin/env bash
# Makes .venv and installs the package with the versions of constraints.txt; does nothing when that is done.
# PYTHON=/path/to/python chooses the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV CONDA_PREFIX

venv=.venv
log=$venv/install.log
installing=$venv/.installing # the process that installs; one that is gone was interrupted
installed=$venv/.installed   # what the finished environment was made from

network_errors='name resolution|dns error|client error|connection (error|refused|reset)|timed out|unreachable'

say() { printf 'setup: %s\n' "$*"; }
die() {
    say "$*" >&2
    exit 1
}

version_of() { "$1" -c 'import platform; print(platform.python_version())' 2>/dev/null || true; }

# is_python COMMAND BELOW: does it run, and is it 3.10 or newer, but older than BELOW?
is_python() { "$1" -c "import sys; sys.exit(not (3, 10) <= sys.version_info < ($2))" 2>/dev/null; }

# The versions are tested on Python 3.10 to 3.13; a newer one is taken only when it is asked for by name.
find_python() {
    local candidate candidates=() without_venv=""
    if [ -n "${PYTHON:-}" ]; then
        is_python "$PYTHON" "4, 0" || die "PYTHON=$PYTHON is not a Python 3.10 or newer that runs."
        candidates=("$PYTHON")
    else
        for candidate in python3 python3.13 python3.12 python3.11 python3.10; do
            if is_python "$candidate" "3, 14"; then candidates+=("$candidate"); fi
        done
        [ ${#candidates[@]} -gt 0 ] || die "found no Python 3.10 to 3.13: install one or set PYTHON."
    fi
    for candidate in "${candidates[@]}"; do
        if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            echo "$candidate"
            return
        fi
        without_venv=python$(version_of "$candidate" | cut -d. -f1,2)
    done
    die "$without_venv cannot make virtual environments: install $without_venv-venv (Debian, Ubuntu)" \
        "or set PYTHON to another Python."
}

# The folder is part of it because the package is installed in place.
fingerprint() { echo "$(version_of "$venv/bin/python") $(cat setup.py pyproject.toml constraints.txt | cksum) $PWD"; }

# Runs "$@" into the log and shows the few lines that tell how far it is.
logged() {
    "$@" 2>&1 | tee -a "$log" | {
        grep --line-buffered -E '^ *(Resolved|Prepared|Installed|Downloading .*[0-9]{3}\.[0-9] ?Mi?B)' || true
    }
}

install_packages() {
    local pip=("$venv/bin/python" -m pip --disable-pip-version-check)
    local what=(-c constraints.txt -e '.[test]')
    if "${pip[@]}" install -c constraints.txt uv >>"$log" 2>&1; then
        # Where Python may not keep bytecode, every start would compile torch and USB again.
        [ -z "${PYTHONDONTWRITEBYTECODE:-}" ] || export UV_COMPILE_BYTECODE=1
        logged "$venv/bin/python" -m uv pip install --python "$venv/bin/python" "${what[@]}" && return
    fi
    say "uv cannot do it here; trying pip, which takes longer"
    logged "${pip[@]}" install "${what[@]}"
}

if [ -e "$installing" ] && kill -0 "$(cat "$installing")" 2>/dev/null; then
    die "process $(cat "$installing") is installing into $venv already: wait for it, or remove $venv."
fi
if [ -e "$venv" ] && [ ! -e "$installing" ] && [ ! -e "$installed" ]; then
    die "$venv was not made by 'make install': move or remove it, then try again."
fi

current=$(version_of "$venv/bin/python")
python=""
if [ -n "${PYTHON:-}" ]; then python=$(find_python); fi
wanted=$(version_of "${python:-$venv/bin/python}")
if [ -e "$installed" ] && [ -n "$current" ] && [ "$wanted" = "$current" ]; then
    [ "$(cat "$installed")" != "$(fingerprint)" ] || exit 0
    say "setup.py, pyproject.toml, constraints.txt or the folder changed: bringing $venv up to date"
    echo $$ >"$installing"
else
    python=${python:-$(find_python)}
    say "making $venv with $python ($(version_of "$python"))"
    rm -rf "$venv"
    mkdir "$venv"
    echo $$ >"$installing"
    "$python" -m venv "$venv" || die "$python could not make $venv: set PYTHON to another Python."
fi

rm -f "$installed"
: >"$log"
say "installing some 150 packages, torch with CUDA among them: about 3 minutes and 6 GB of disk"
if ! install_packages; then
    if grep -qiE "$network_errors" "$log"; then
        die "the package index cannot be reached: check the network and try again (details in $log)."
    fi
    tail -n 15 "$log" >&2
    die "the packages could not be installed: see the reason above, and everything in $log."
fi
fingerprint >"$installed"
rm -f "$installing"
say "done"
