// What the words of candle's kernels mean here, in place of its compatibility.cuh: lanes take turns, so none may wait for another.
#pragma once
#include "emulator.h"
#include <algorithm>
#include <cassert>
#include <cmath>

struct Place { unsigned x, y, z; };
inline thread_local Place threadIdx, blockIdx, blockDim, gridDim;
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static thread_local
#define __restrict__
#define __syncthreads() complain("a lane waits for another"), abort()

using std::isnan, std::max, std::min;
inline int min(int a, unsigned b) { return (int)std::min<long>(a, b); }
template <class A, class B> A atomicAdd(A *at, B more) { A old = *at; *at += more; return old; }
inline float normcdff(float x) { return 0.5f * erfcf(-x * (float)M_SQRT1_2); }
inline double normcdf(double x) { return 0.5 * erfc(-x * M_SQRT1_2); }
struct float4 { float x, y, z, w; };
// Numbers of eight bits, of which nobody here has any.
struct __nv_fp8_e4m3 { unsigned char __x; __nv_fp8_e4m3() = default; explicit __nv_fp8_e4m3(float) { abort(); } };
inline float __half2float(float x) { return x; }
inline float __nv_cvt_fp8_to_halfraw(unsigned char, int) { abort(); }
#define __NV_E4M3 0

inline void all_lanes(std::function<void()> kernel, const unsigned *grid, const unsigned *block)
{
    gridDim = {grid[0], grid[1], grid[2]}, blockDim = {block[0], block[1], block[2]};
    for (blockIdx.z = 0; blockIdx.z < grid[2]; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < grid[1]; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < grid[0]; blockIdx.x++)
                for (threadIdx = {0, 0, 0}; threadIdx.x < block[0]; threadIdx.x++) kernel();
}
#define ENTER(name) static bool entered_##name = enter(#name, name, all_lanes);
