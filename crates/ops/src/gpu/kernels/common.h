// A block has LANES lanes, of which WARP always walk together.
#define LANES 256
#define WARP 32
// Numbers 0 to count, shared among all lanes of all blocks.
#define each(at, count) each_lane for (int at = block * LANES + lane; at < (count); at += blocks * LANES)
// What the lanes of a block have, added up in the place of the first.
#define add_up_block(part)                                            \
    for (int half = LANES / 2; half > 0; half /= 2) {                 \
        each_lane if (lane < half) part[lane] += part[lane + half];   \
        together;                                                     \
    }
// Pieces of so many numbers, shared likewise, and where they begin.
#define each_piece(at, count, apiece) \
    for (int at = (block * LANES + lane) * (apiece); at < (count); at += blocks * LANES * (apiece))
// The same, where a lane has little to do with each: of each round a lane has one. It asks for those of AHEAD rounds before it looks at the first,
// since memory is far: `ahead` goes through them, and where they begin.
#define AHEAD 2
#define each_rounds(count, apiece) \
    for (int round = blocks * LANES * (apiece), next = (block * LANES + lane) * (apiece); next < (count); next += AHEAD * round)
#define ahead(k, at) unrolled for (int k = 0, at = next; k < AHEAD; k++, at += round)
// A function over pieces of four numbers, or of one.
#define by_pieces(fours, function, ...) \
    if (fours) function(4, __VA_ARGS__); else function(1, __VA_ARGS__)
#define NOTHING_YET (-1.0f / 0.0f)

// How a window moves over a map: their sizes, the window's; input pixels per step, around the map, and between places.
typedef struct {
    int height, width, to_height, to_width, rows, columns, down, right, above, left, apart_down, apart_right;
} Window;

// Tensors of one launch: where each begins, and with which number of all their numbers in a row.
#define MANY 128
typedef struct {
    float *of[MANY];
} Tensors;
typedef struct {
    int of[MANY];
} Firsts;
// A number for each of them.
typedef struct {
    float of[MANY];
} Floats;

// A number of a map: of single precision, or the upper half of its bits. Kernels over maps are there for both (`text.rs`).
typedef struct {
    unsigned short bits;
} bf16;

device_function float of_float(float x)
{
    return x;
}

device_function float to_float(float x)
{
    return x;
}

device_function float of_bf16(bf16 x)
{
    return float_of((unsigned)x.bits << 16);
}

// The nearest, and of two the even one. What is no number stays none.
device_function unsigned short upper_half(float x)
{
#ifdef hardware_upper_half
    return hardware_upper_half(x);
#else
    unsigned bits = bits_of(x);
    return (unsigned short)(x != x ? bits >> 16 | 64 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
#endif
}

device_function bf16 to_bf16(float x)
{
    bf16 y;
    y.bits = upper_half(x);
    return y;
}

// Four numbers of a map, which come and go at once where they lie as they must for that; and one in the place of four. Which of the two is
// known where a kernel is compiled: it has a loop for each.
typedef struct side_by_side(4 * sizeof(MAP)) {
    MAP of[4];
} four_MAP;

#define in_fours_MAP(at) ((unsigned long long)(at) % sizeof(four_MAP) == 0)

device_function four_MAP some_MAP(const MAP *x, int at, int apiece)
{
    four_MAP some;
    some.of[0] = some.of[1] = some.of[2] = some.of[3] = to_MAP(0.0f);
    if (x && apiece == 4)
        some = *(const four_MAP *)(x + at);
    else if (x)
        some.of[0] = x[at];
    return some;
}

device_function void put_some_MAP(MAP *y, int at, int apiece, four_MAP some)
{
    if (apiece == 4)
        *(four_MAP *)(y + at) = some;
    else
        y[at] = some.of[0];
}

