// Two changes of a map, one after the other, as a table has them (`change.rs`): what is between them is made where it is read.

// Words of a change: its kind, six of an affine map or five of noise, four bounds, a number for each channel.
#define HEAD 11
#define LOOK 1
#define CUT 2
#define SCALE 3
#define ORDER 4
#define NOISE 5

// Where line `at` of so many stands, in coordinates from -1 to 1.
device_function float stand(int at, int lines)
{
    return lines > 1 ? (float)((lines - 1.0) / lines * (2.0 * at / (lines - 1) - 1.0)) : 0.0f;
}

// A block of Philox4x32-10 (`key.rs` of `sokd-core`).
typedef struct {
    unsigned of[4];
} Words;

device_function Words philox(unsigned first, unsigned second, unsigned a, unsigned b, unsigned c, unsigned d)
{
    for (int round = 0; round < 10; round++) {
        unsigned long long one = a * 0xd2511f53ull, other = c * 0xcd9e8d57ull;
        a = (unsigned)(other >> 32) ^ b ^ first;
        b = (unsigned)other;
        c = (unsigned)(one >> 32) ^ d ^ second;
        d = (unsigned)one;
        first += 0x9e3779b9u;
        second += 0xbb67ae85u;
    }
    Words words = {{a, b, c, d}};
    return words;
}

// Four words of a key's stream, and word `at` of it.
#define words_of(first, second, four) philox(first, second, four, 0, 0, 0)
device_function unsigned word_of(unsigned first, unsigned second, unsigned at)
{
    Words four = words_of(first, second, at / 4);
    return at % 4 < 2 ? (at % 4 == 0 ? four.of[0] : four.of[1]) : at % 4 == 2 ? four.of[2] : four.of[3];
}

// The normal number whose like are as rare as the word says (`fast/normals.rs`).
device_function float normal_of(unsigned word)
{
    float beyond = ((float)(word & 0x7fffffffu) + 0.5f) * 2.3283064365386963e-10f, number;
    float rare = -logf(4.0f * beyond * (1.0f - beyond));
    if (rare < 5.0f) {
        rare -= 2.5f;
        number = 2.81022636e-8f;
        number = 3.43273939e-7f + number * rare;
        number = -3.5233877e-6f + number * rare;
        number = -4.39150654e-6f + number * rare;
        number = 2.1858087e-4f + number * rare;
        number = -1.25372503e-3f + number * rare;
        number = -4.17768164e-3f + number * rare;
        number = 0.246640727f + number * rare;
        number = 1.50140941f + number * rare;
    } else {
        rare = sqrtf(rare) - 3.0f;
        number = -2.00214257e-4f;
        number = 1.00950558e-4f + number * rare;
        number = 1.34934322e-3f + number * rare;
        number = -3.67342844e-3f + number * rare;
        number = 5.73950773e-3f + number * rare;
        number = -7.6224613e-3f + number * rare;
        number = 9.43887047e-3f + number * rare;
        number = 1.00167406f + number * rare;
        number = 2.83297682f + number * rare;
    }
    number *= 1.41421356f * (1.0f - 2.0f * beyond);
    return word >> 31 ? -number : number;
}

// A word of which these are the halves.
device_function unsigned whole(float upper, float lower)
{
    return (unsigned)upper << 16 | (unsigned)lower;
}

// One number of what the change `by` makes of whatever `read` finds at a row, a column and a channel.
#define make(name, read)                                                                                                       \
    device_function float name(const float *x, const float *first, const float *by, int image, int row, int column,            \
                               int channel, int height, int width, int channels)                                               \
    {                                                                                                                          \
        int kind = (int)by[0];                                                                                                 \
        if (kind == LOOK) {                                                                                                    \
            float right = stand(column, width), down = stand(row, height), sum = 0.0f;                                         \
            Place x_at = place_of(by[1] * right + by[2] * down + by[3], width, 0, 0);                                          \
            Place y_at = place_of(by[4] * right + by[5] * down + by[6], height, 0, 0);                                         \
            for (int corner = 0; corner < 4; corner++) {                                                                       \
                Corner seen = corner_of(x_at, y_at, corner, height, width);                                                    \
                if (seen.pixel >= 0) sum += seen.weight * read(seen.pixel / width, seen.pixel % width, channel);               \
            }                                                                                                                  \
            return sum;                                                                                                        \
        }                                                                                                                      \
        int inside = row >= (int)by[7] && row < (int)by[8] && column >= (int)by[9] && column < (int)by[10];                    \
        if (kind == CUT && inside) return 0.0f;                                                                                \
        float value = read(row, column, kind == ORDER ? (int)by[HEAD + channel] : channel);                                    \
        if (kind == SCALE) value *= by[HEAD + channel];                                                                        \
        if (kind == NOISE) {                                                                                                   \
            unsigned place = (unsigned)(((image * height + row) * width + column) * channels + channel);                       \
            value += by[1] * normal_of(word_of(whole(by[2], by[3]), whole(by[4], by[5]), place));                              \
        }                                                                                                                      \
        return value;                                                                                                          \
    }
#define from_map(row, column, channel) x[((image * height + (row)) * width + (column)) * channels + (channel)]
#define from_first(row, column, channel) changed_once(x, first, first, image, row, column, channel, height, width, channels)
make(changed_once, from_map)
make(changed_twice, from_first)

// Number `at` of what a pair of changes makes of a map.
device_function float changed(const float *x, const float *pair, int at, int height, int width, int channels)
{
    int channel = at % channels, column = at / channels % width;
    int row = at / channels / width % height, image = at / channels / width / height;
    return changed_twice(x, pair, pair + HEAD + channels, image, row, column, channel, height, width, channels);
}

kernel change_twice(const float *x, const float *table, float *y, int count, int height, int width, int channels)
{
    each(at, count) y[at] = changed(x, table, at, height, width, channels);
}

// Of what each pair makes of `x`, the sum of those numbers, times those of `other`, that a block goes through; `apart` blocks share a
// pair.
kernel inner_of_changes(const float *x, const float *table, const float *other, double *sums, int count, int apart, int height,
                        int width, int channels)
{
    shared double sum[LANES];
    const float *pair = table + block / apart * 2 * (HEAD + channels);
    each_lane
    {
        sum[lane] = 0.0;
        for (int at = block % apart * LANES + lane; at < count; at += apart * LANES)
            sum[lane] += (double)other[at] * changed(x, pair, at, height, width, channels);
    }
    together;
    add_up_block(sum);
    each_lane if (lane == 0) sums[block] = sum[0];
}
