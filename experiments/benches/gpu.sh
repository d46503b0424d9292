#!/bin/sh
# What only a machine with an NVIDIA GPU can show: that every operation computes right and a network learns (`check`), what networks for
# small images cost beside PyTorch (`small`), and what ResNet-50 costs in mixed precision on images of 224 x 224 (`large`). All of it takes
# some fifteen minutes, a part ten at most. In the repository after `cargo xtask cuda`, or in the folder that `cargo xtask cuda --pack`
# packed. Needs no Rust and no network; the times beside PyTorch need Python with a PyTorch for CUDA.
#
# Usage: experiments/benches/gpu.sh [FOLDER FOR RESULTS [PART...]]
set -u
out=${1:-gpu-results}
[ $# -gt 0 ] && shift
parts=${*:-check small large}
mkdir -p "$out"
sokd=./sokd xtask=./xtask
[ -x "$sokd" ] || sokd=target/cuda/release/sokd
[ -x "$xtask" ] || xtask="cargo xtask"

# PyTorch's wheels bring the libraries that the program asks for.
wheels=$(python3 -c 'import nvidia, pathlib; print(":".join(sorted({str(lib.parent) for place in nvidia.__path__ for lib in pathlib.Path(place).rglob("lib*.so*")})))' 2>/dev/null)
export LD_LIBRARY_PATH="$wheels:${LD_LIBRARY_PATH:-}"

failed=0
try() { # NAME COMMAND...: what it says goes to a file of that name, and whether it worked to the terminal
    name=$1
    shift
    started=$(date +%s)
    if "$@" >"$out/$name" 2>&1; then said=done; else said="FAILED ($?)" failed=1; fi
    echo "$name: $said, $(($(date +%s) - started)) s"
}

has() { # PART
    case " $parts " in *" $1 "*) true ;; *) false ;; esac
}
beside_pytorch() { # NAME SECONDS OPTIONS...
    name=$1 seconds=$2
    shift 2
    if python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
        try "$name" timeout "$seconds" $xtask bench --ours "$sokd" --device cuda --threads 1 "$@"
        cp experiments/results/bench/*-gpu*.json "$out" 2>/dev/null
    else
        echo "$name: skipped, because python3 has no PyTorch for CUDA"
    fi
}

if has check; then
    try doctor.txt "$sokd" doctor
    try parity.txt "$sokd" doctor --kernels --device cuda
    try parity-tf32.txt env SOKD_TF32=1 "$sokd" doctor --kernels --device cuda
    try parity-measured.txt env SOKD_MEASURE=1 "$sokd" doctor --kernels --device cuda
    try parity-composed.txt env SOKD_BACKEND=composed "$sokd" doctor --kernels --device cuda
    try train.txt timeout 120 "$sokd" train cifar100-resnet56-resnet20 --tier smoke --device cuda --run-dir "$out/run"
    try train-mixed.txt timeout 120 "$sokd" train cifar100-resnet56-resnet20 --tier smoke --device cuda --run-dir "$out/run-mixed" \
        student.precision=mixed teacher.precision=mixed
    try train-sokd.txt timeout 120 "$sokd" train cifar100-sokd-ablation extends=sokd:sokd-robust --tier smoke --device cuda \
        --run-dir "$out/run-sokd"
    try train-tst.txt timeout 120 "$sokd" train cifar100-tst --tier smoke --device cuda --run-dir "$out/run-tst"
    try train-crd.txt timeout 120 "$sokd" train cifar100-resnet56-resnet20 extends=sokd:crd --tier smoke --device cuda \
        --run-dir "$out/run-crd"
    try graphs.txt grep -H "steps of" "$out"/run*/train.log
    # Last, and for a while: it takes minutes to load what candle links along, and some machines refuse it.
    if command -v compute-sanitizer >/dev/null; then
        try sanitizer.txt timeout 240 compute-sanitizer --error-exitcode 1 "$sokd" doctor --kernels --device cuda
    fi
fi
if has small; then
    try bench-ours.txt env SOKD_LOG=info "$sokd" bench resnet20 --device cuda
    try bench-tf32.txt env SOKD_TF32=1 "$sokd" bench resnet20 --device cuda
    try bench-measured.txt env SOKD_TF32=1 SOKD_MEASURE=1 "$sokd" bench resnet20 --device cuda
    try bench-no-graphs.txt env SOKD_CUDA_GRAPHS=0 "$sokd" bench resnet20 --device cuda
    try profile.txt "$sokd" bench resnet56 resnet20 --profile --device cuda
    # As PyTorch has it unasked: the factors of convolutions in ten bits, on both sides.
    export SOKD_TF32=1
    beside_pytorch bench.txt 420 --what train,inference,kd --rounds 5 --steps 20 \
        --models resnet20,resnet8x4 --pairs resnet56+resnet20 --mode eager,bf16,compile
    unset SOKD_TF32
    beside_pytorch bench-exact.txt 120 --what train --rounds 5 --steps 20 --models resnet20,resnet8x4 --mode eager
fi
if has large; then
    try bench-large.txt env SOKD_LOG=info "$sokd" bench imagenet_resnet50 --size 224 --mixed --device cuda
    export SOKD_MEASURE=1
    try bench-large-measured.txt "$sokd" bench imagenet_resnet50 --size 224 --mixed --device cuda
    try profile-large.txt "$sokd" bench imagenet_resnet50 --size 224 --mixed --times 5 --profile --device cuda
    beside_pytorch bench-large-pytorch.txt 420 --what train-mixed,inference-mixed --rounds 5 --steps 10 \
        --models imagenet_resnet50 --size 224 --mode bf16,compile-bf16
fi
exit $failed
