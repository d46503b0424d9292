// What the words of the kernels mean in this machine's memory: a block's lanes take turns, from one `together` to the next.
#define kernel static void
#define device_function static
static _Thread_local int block, blocks;
#define each_lane for (int lane = 0; lane < LANES; lane++)
#define together
#define shared static _Thread_local
#define fence() ((void)0)
#define add_one(count) ((*(count))++)
#define raise(place, number) (*(place) = *(place) < (number) ? (number) : *(place))
#define fresh(number) (*(number))
#define unrolled
#define side_by_side(bytes)
#include <math.h>
#include <string.h>
device_function unsigned bits_of(float x)
{
    unsigned bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
device_function float float_of(unsigned bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
