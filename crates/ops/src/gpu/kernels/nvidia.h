// What the words of the kernels mean on a GPU.
#define kernel extern "C" __global__ void
#define device_function static __device__ __forceinline__
#define block ((int)blockIdx.x)
#define blocks ((int)gridDim.x)
#define each_lane for (int lane = (int)threadIdx.x, once = 1; once; once = 0)
#define together __syncthreads()
#define shared __shared__
#define fence() __threadfence()
#define add_one(count) atomicAdd(count, 1u)
// In whatever order lanes come.
#define raise(place, number) atomicMax(place, number)
// What another block has left, past this one's cache.
#define fresh(number) __ldcg(number)
#define side_by_side(bytes) __align__(bytes)
// Before a loop that has to be none: what it counts through lies in registers.
#define unrolled _Pragma("unroll")
#define bits_of(x) __float_as_uint(x)
#define float_of(bits) __uint_as_float(bits)
#if __CUDA_ARCH__ >= 800
__device__ __forceinline__ unsigned short hardware_upper_half(float x)
{
    unsigned short half;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(half) : "f"(x));
    return half;
}
#define hardware_upper_half hardware_upper_half
#endif
