#!/usr/bin/env bash
# All tests with the lowest and the newest torch that requirements.txt allows, each with and without
# AVX2, on one thread and on two: every pair of these in four runs. One line for each at the end.
#
#   TORCH       versions, as "2.8 newest"; default: these two
#   CAPABILITY  what torch may use of the processor; default: "default avx2"
#   THREADS     of each test process; default: 1 and 2, changing from run to run
#   TESTS       files or folders; default: all
#   VENVS       folder of the environments, which are made once; default: .venvs
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
lowest=$(sed -n 's/^torch>=\([0-9.]*\).*/\1/p' requirements.txt)
venvs=${VENVS:-.venvs} report="" failed=0 i=0

# make the environment of a version, or bring it up to date with the requirements
install() {
    local folder=$1 torch="torch==$2.*"
    [ "$2" = newest ] && torch=torch
    if [ requirements.txt -nt "$folder/installed" ] || [ requirements-dev.txt -nt "$folder/installed" ]; then
        [ -x "$folder/bin/python" ] || "${PYTHON:-python3}" -m venv "$folder" || return
        "$folder/bin/python" -m pip install -q --upgrade "$torch" torchvision -r requirements-dev.txt &&
            touch "$folder/installed"
    fi
}

run() {
    local folder=$1 capability=$2 threads=$3 python="$1/bin/python" log="$1-$2-$3.log" found result
    export ATEN_CPU_CAPABILITY=$capability OMP_NUM_THREADS=$threads
    found=$("$python" -c 'import torch; print(torch.__version__, torch.backends.cpu.get_cpu_capability())') || {
        report+="torch of $folder: cannot be imported"$'\n' failed=1
        return
    }
    # "default" has another name in every version
    if [ "$capability" != default ] && [ "$(tr '[:upper:]' '[:lower:]' <<<"${found#* }")" != "$capability" ]; then
        result="not tested: no $capability here"
    else
        echo "== torch $found, threads: $threads"
        # two tests at a time on one thread each, or one on several
        # shellcheck disable=SC2086  # TESTS is a list of words
        "$python" -m pytest -n $((threads > 1 ? 1 : 2)) ${TESTS:-} 2>&1 | tee "$log" || failed=1
        result=$(tail -n 1 "$log")
    fi
    report+="torch $found, threads: $threads: $result"$'\n'
}

for version in ${TORCH:-$lowest newest}; do
    folder=$venvs/torch-$version
    if ! install "$folder" "$version"; then
        report+="torch $version: cannot be installed"$'\n' failed=1
        continue
    fi
    for capability in ${CAPABILITY:-default avx2}; do
        for threads in ${THREADS:-$((i % 2 + 1))}; do
            run "$folder" "$capability" "$threads"
        done
        i=$((i + 1))
    done
    # the next version meets each capability with the other threads
    [ $((i % 2)) = 0 ] && i=1 || i=0
done

printf '\n%s' "$report"
exit "$failed"
