#!/usr/bin/env bash
# Build, test and benchmark on a machine with a GPU, with the Python at hand and no network.
#   WHEELS=folder  install what is missing (protobuf, lmdb, h5py, ...) from wheels carried along
#   OUT=folder     where results go (default gpu_results)
# Takes under 10 minutes on an H100 machine with 16 cores.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH=$PWD
out=${OUT:-gpu_results}
mkdir -p "$out"
python=${PYTHON:-python3}

"$python" - <<'PY' || { echo "PyTorch sees no CUDA device: this script is for a machine with a GPU" >&2; exit 2; }
import sys, torch
sys.exit(not torch.cuda.is_available())
PY
if [[ -n ${WHEELS:-} ]]; then
  "$python" -m pip install --quiet --no-index --find-links "$WHEELS" \
    protobuf lmdb h5py opencv-python-headless safetensors rich hypothesis pybind11
fi

# The device at hand only: a build for every architecture takes several times longer.
TORCH_CUDA_ARCH_LIST=$("$python" -c 'import torch; print("%d.%d" % torch.cuda.get_device_capability())')
export TORCH_CUDA_ARCH_LIST
CAFFE_COMPAT_CUDA=1 MAX_JOBS=${MAX_JOBS:-$(nproc)} "$python" setup.py build_ext --inplace >"$out/build.log" 2>&1 ||
  { tail -30 "$out/build.log" >&2; exit 1; }

status=0
"$python" -m pytest tests/ops tests/layers tests/net tests/data -q -rs 2>&1 | tee "$out/tests.log" || status=1
if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    compute-sanitizer --tool "$tool" --error-exitcode 1 "$python" -m pytest tests/ops -q -k "cuda and not compile and not host_cuda" \
      >"$out/$tool.log" 2>&1 || { echo "compute-sanitizer $tool: see $out/$tool.log" >&2; status=1; }
  done
fi
for bench in lrn conv train data; do
  [[ -f benchmarks/bench_$bench.py ]] || continue
  "$python" "benchmarks/bench_$bench.py" --json "$out/bench_$bench.json" 2>&1 | tee "$out/bench_$bench.txt" || status=1
done
exit $status
