#!/usr/bin/env bash
# Build, test and benchmark on a machine with a GPU, with the Python at hand and no network, in under 10 minutes.
#
#   benchmarks/run_on_gpu.sh [build] [test] [sanitize] [bench] [report]      without arguments: all of them
#
#   OUT=folder      gets log.txt and results.tar.gz, the numbers and the report (default gpu_results)
#   WHEELS=folder   wheels of what the Python at hand lacks, such as `make wheels` fetches (default wheels)
#   LIMIT=seconds   for everything (default 570); the most important comes first, what does not fit in is left out, and
#                   the log says so; results.tar.gz is written anew behind each step, and when the script is stopped.
#                   Behind a build of 120 s (51 were measured on 16 cores) every step has its whole limit
#   PYTHON=command  the Python with PyTorch (default python3)
#
# Exit status: 0 when all went well, 1 when something failed or was left out, 2 when this machine will not do.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
out=${OUT:-gpu_results}
wheels=${WHEELS:-wheels}
limit=${LIMIT:-570}
results=build/gpu/results
site=$PWD/build/gpu/site
mkdir -p "$out" "$results" "$site"
export PYTHONPATH=$PWD:$site PYTHONUNBUFFERED=1
# The log outlives a signal that stops us.
exec > >(trap '' TERM INT; exec tee "$out/log.txt") 2>&1
SECONDS=0
failed=build/gpu/failed # there when something went wrong, in whichever process
rm -f "$failed"

refuse() {
  echo "run_on_gpu.sh: $*"
  exit 2
}

# Seconds kept for the report, which is the last step.
reserve=$((limit > 80 ? 20 : limit / 4))

# step NAME SECONDS COMMAND...: run it within its limit and ours; a failure is noted, and we go on.
step() {
  local name=$1 most=$2 left=$((limit - SECONDS - reserve)) start=$SECONDS
  [[ $name != report ]] || left=$((limit - SECONDS))
  shift 2
  if ((left < 5)); then
    echo "=== $name: left out, $limit s are over"
    touch "$failed"
    return 1
  fi
  echo "=== $name"
  # In the background, as bash sees to a signal while it waits, but not while a command runs.
  timeout --kill-after=5 "$((most < left ? most : left))" "$@" &
  if wait $!; then
    echo "=== $name: done in $((SECONDS - start)) s"
    pack
  else
    echo "=== $name: FAILED with status $? after $((SECONDS - start)) s (124: ran out of time)"
    touch "$failed"
    pack
    return 1
  fi
}

# Several steps may end at once: each writes a file of its own, and the last one wins whole.
pack() {
  cp "$out/log.txt" "$results/log.txt" 2>/dev/null || true
  tar -czf "$out/results.$BASHPID" -C build/gpu results 2>/dev/null || true
  mv "$out/results.$BASHPID" "$out/results.tar.gz"
}
# shellcheck disable=SC2046  # several jobs
trap 'trap - TERM INT; echo "=== stopped after $SECONDS s"; pack; kill $(jobs -p) 2>/dev/null; exit 1' TERM INT

check_machine() {
  "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null ||
    refuse "$python has no PyTorch that sees a CUDA device (PYTHON=command names another); this script is for a machine with a GPU"
  command -v nvcc >/dev/null || [[ -n ${CUDA_HOME:-} ]] || refuse "there is no nvcc on PATH; set CUDA_HOME"
  local missing
  missing=$("$python" - <<'PY'
from importlib.util import find_spec

needed = {"protobuf": "google.protobuf", "lmdb": "lmdb", "h5py": "h5py", "opencv-python-headless": "cv2", "numpy": "numpy"}
needed |= {"pytest-xdist": "xdist", "execnet": "execnet"}  # tests run side by side
needed |= {name: name for name in ("safetensors", "rich", "pytest", "hypothesis", "pybind11", "ninja", "matplotlib")}


def is_missing(module: str) -> bool:
    try:
        return find_spec(module) is None
    except ModuleNotFoundError:
        return True


print(" ".join(name for name, module in needed.items() if is_missing(module)))
PY
  )
  if [[ -n $missing ]]; then
    echo "Installing from $wheels: $missing"
    # shellcheck disable=SC2086  # several names
    "$python" -m pip install --quiet --no-index --no-deps --upgrade --target "$site" --find-links "$wheels" $missing ||
      refuse "$missing missing here and in $wheels; fetch wheels with 'make wheels WHEEL_NAMES=\"$missing\"' first"
  fi
  "$python" -c 'import torch; print(torch.cuda.get_device_name(), "torch", torch.__version__, "CUDA", torch.version.cuda)'
}

build() {
  # The device at hand only: a build for every architecture takes several times longer.
  TORCH_CUDA_ARCH_LIST=$("$python" -c 'import torch; print("%d.%d" % torch.cuda.get_device_capability())')
  export TORCH_CUDA_ARCH_LIST
  CAFFE_COMPAT_CUDA=1 MAX_JOBS=${MAX_JOBS:-$(nproc)} step build 280 "$python" setup.py --quiet build_ext --inplace ||
    { pack; exit 1; }
}

run_tests() {
  # Errors first and by themselves: on one machine each ended its process.
  step errors 40 "$python" -m pytest -vv -rfEs -n 4 -p no:cacheprovider -k "errors_say_what_came and cuda" \
    tests/ops || true
  # What needs no GPU has been tested elsewhere.  With -vv each failure is named at once, so that it is known even where
  # time runs out.
  step tests 120 "$python" -m pytest -vv -rfEs -m "not slow" -n 8 -p no:cacheprovider \
    -k "(cuda or graphs or tower or not_finite or tune) and not test_host and not errors_say_what_came" \
    tests/ops tests/solver tests/net tests/test_golden_nets.py tests/layers tests/data tests/tools/test_tune.py \
    tests/test_precision.py || true
}

sanitize() {
  if ! command -v compute-sanitizer >/dev/null; then
    echo "=== sanitize: left out, there is no compute-sanitizer"
    touch "$failed"
    return
  fi
  # A race shows in any size and dtype, and looking for it takes long.
  step memcheck 100 compute-sanitizer --tool memcheck --error-exitcode 1 "$python" tests/run_cuda_operators.py &
  step racecheck 100 compute-sanitizer --tool racecheck --error-exitcode 1 "$python" tests/run_cuda_operators.py --few &
}

# The steps in the background; not plain wait, which would wait for the log's tee, too.
wait_for_tests() {
  local job
  for job in $(jobs -p); do
    wait "$job" || true
  done
}

# bench_* SECONDS OPTIONS...
run_bench() {
  local name=$1 most=$2
  shift 2
  [[ -f benchmarks/bench_$name.py ]] || return 0
  step "bench_$name" "$most" "$python" "benchmarks/bench_$name.py" --json "$results/bench_${name}_cuda.json" "$@" || true
}

bench() {
  run_bench train 100 --layers --rounds 5
  # Says how long a step takes before and after; all else is timed by rule of thumb.
  CAFFE_COMPAT_CONV_TABLE=$PWD/$results/conv_table.json step tune 50 "$python" -m caffe_compat.cli tune \
    prototxt/caffenet/caffenet_train_val.prototxt --shape data=256x3x227x227 --shape label=256 || true
  run_bench lrn 15
  run_bench pool 15
  run_bench conv 30
  run_bench data 40 --device cuda --images 1000 --seconds 1 --limit 36
  step precision_curves 20 "$python" benchmarks/precision_curves.py --out "$results/precision_curves" || true
}

report() {
  step report 20 "$python" benchmarks/make_report.py "$results" --out "$results/benchmarks.md" || true
}

parts=("$@")
((${#parts[@]})) || parts=(build test sanitize bench report)
for part in "${parts[@]}"; do
  [[ $part =~ ^(build|test|sanitize|bench|report)$ ]] ||
    refuse "there is no part '$part'; expected build, test, sanitize, bench or report"
done
check_machine
for part in "${parts[@]}"; do
  case $part in
    build) build ;;
    # Neither is timed, so that they may share the device; what is timed waits for both.
    test) run_tests & ;;
    sanitize) sanitize ;;
    bench)
      wait_for_tests
      bench
      ;;
    report) report ;;
  esac
done
wait_for_tests
pack
if [[ -e $failed ]]; then
  echo "=== all in $SECONDS s; something failed or was left out: see above"
  exit 1
fi
echo "=== all in $SECONDS s; all went well"
