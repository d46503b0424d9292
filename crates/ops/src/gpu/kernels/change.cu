// Two changes of a map, one after the other, as a table has them (`change.rs`): what is between them is made where it is read.

// Words of a change: its kind, six of an affine map, four bounds, a number for each channel.
#define HEAD 11
#define LOOK 1
#define CUT 2
#define SCALE 3
#define ORDER 4
#define ADD 5

// Where line `at` of so many stands, in coordinates from -1 to 1.
device_function float stand(int at, int lines)
{
    return lines > 1 ? (float)((lines - 1.0) / lines * (2.0 * at / (lines - 1) - 1.0)) : 0.0f;
}

// One number of what the change `by` makes of whatever `read` finds at a row, a column and a channel.
#define make(name, read)                                                                                                       \
    device_function float name(const float *x, const float *first, const float *by, const float *added, int image, int row,  \
                               int column, int channel, int height, int width, int channels)                                  \
    {                                                                                                                          \
        int kind = (int)by[0];                                                                                                 \
        if (kind == LOOK) {                                                                                                    \
            float right = stand(column, width), down = stand(row, height), sum = 0.0f;                                         \
            float at[2] = {by[1] * right + by[2] * down + by[3], by[4] * right + by[5] * down + by[6]};                        \
            Corner corners[4];                                                                                                 \
            corners_of(at, corners, height, width, 0, 0, 0);                                                                   \
            for (int corner = 0; corner < 4; corner++) {                                                                       \
                int pixel = corners[corner].pixel;                                                                             \
                if (pixel >= 0) sum += corners[corner].weight * read(pixel / width, pixel % width, channel);                   \
            }                                                                                                                  \
            return sum;                                                                                                        \
        }                                                                                                                      \
        int inside = row >= (int)by[7] && row < (int)by[8] && column >= (int)by[9] && column < (int)by[10];                    \
        if (kind == CUT && inside) return 0.0f;                                                                                \
        float value = read(row, column, kind == ORDER ? (int)by[HEAD + channel] : channel);                                    \
        if (kind == SCALE) value *= by[HEAD + channel];                                                                        \
        if (kind == ADD) value += added[((image * height + row) * width + column) * channels + channel];                       \
        return value;                                                                                                          \
    }
#define from_map(row, column, channel) x[((image * height + (row)) * width + (column)) * channels + (channel)]
#define from_first(row, column, channel) changed_once(x, first, first, added, image, row, column, channel, height, width, channels)
make(changed_once, from_map)
make(changed_twice, from_first)

kernel change_twice(const float *x, const float *table, const float *added, float *y, int count, int height, int width, int channels)
{
    each(at, count)
    {
        int channel = at % channels, column = at / channels % width;
        int row = at / channels / width % height, image = at / channels / width / height;
        y[at] = changed_twice(x, table, table + HEAD + channels, added, image, row, column, channel, height, width, channels);
    }
}
