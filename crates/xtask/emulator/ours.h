// What the words of our kernels mean here, in C++ (crates/ops/src/gpu/kernels/mirror.h is the same for the tests, in C).
#include "emulator.h"
#include <bit>
#include <cmath>
#define kernel extern "C" void
#define device_function static
static thread_local int block, blocks;
#define each_lane for (int lane = 0; lane < LANES; lane++)
#define together
#define shared static thread_local
#define fence() ((void)0)
#define add_one(count) ((*(count))++)
#define raise(place, number) (*(place) = *(place) < (number) ? (number) : *(place))
#define fresh(number) (*(number))
#define unrolled
#define side_by_side(bytes)
#define bits_of(x) std::bit_cast<unsigned>(x)
#define float_of(bits) std::bit_cast<float>(bits)
inline void all_blocks(std::function<void()> run, const unsigned *grid, const unsigned *)
{
    blocks = (int)grid[0];
    for (block = 0; block < blocks; block++) run();
}
#define ENTER(name) static bool entered_##name = enter(#name, name, all_blocks);
