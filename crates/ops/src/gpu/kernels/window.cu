// Windows that move over a map, channel by channel: depthwise convolution, and maxima.

// Of element `at` of a map of `height` by `width`: where it lies.
#define locate(at, height, width)                                                       \
    int channel = at % channels, column = at / channels % width, row = at / channels / width % height, \
        image = at / channels / width / height

kernel depthwise_MAP(const MAP *x, const float *weights, MAP *y, Window w, int count, int channels)
{
    each(at, count)
    {
        locate(at, w.to_height, w.to_width);
        float sum = 0.0f;
        for (int i = 0; i < w.rows; i++)
            for (int j = 0; j < w.columns; j++) {
                int down = row * w.down + i * w.apart_down - w.above, right = column * w.right + j * w.apart_right - w.left;
                if (down >= 0 && down < w.height && right >= 0 && right < w.width)
                    sum += of_MAP(x[((image * w.height + down) * w.width + right) * channels + channel]) *
                           weights[(i * w.columns + j) * channels + channel];
            }
        y[at] = to_MAP(sum);
    }
}

// Which output, if any, reads input line `line` at place `i` of its window; -1 for none.
device_function int reader(int line, int before, int i, int apart, int stride, int outputs)
{
    int start = line + before - i * apart;
    // A GPU has no instruction that divides.
    int output = stride == 1 ? start : stride == 2 ? start / 2 : start / stride;
    return start >= 0 && output * stride == start && output < outputs ? output : -1;
}

// The first of the outputs whose windows of `size` lines, side by side, see a line that lies `place` behind the first window's start.
device_function int first_reader(int place, int size, int stride)
{
    return place < size ? 0 : (place - size) / stride + 1;
}

kernel depthwise_back_MAP(const float *weights, const MAP *gradient, MAP *of_x, Window w, int count, int channels)
{
    each(at, count)
    {
        locate(at, w.height, w.width);
        float sum = 0.0f;
        for (int i = 0; i < w.rows; i++)
            for (int j = 0; j < w.columns; j++) {
                int down = reader(row, w.above, i, w.apart_down, w.down, w.to_height);
                int right = reader(column, w.left, j, w.apart_right, w.right, w.to_width);
                if (down >= 0 && right >= 0)
                    sum += of_MAP(gradient[((image * w.to_height + down) * w.to_width + right) * channels + channel]) *
                           weights[(i * w.columns + j) * channels + channel];
            }
        of_x[at] = to_MAP(sum);
    }
}

// A block takes one place of the window, a slice of the output's pixels and a tile of the channels.
kernel depthwise_weights_MAP(const MAP *x, const MAP *gradient, float *sums, Window w, int pixels, int channels, int slices)
{
    shared float sum[LANES];
    int wide = channels < TILE ? channels : TILE, deep = LANES / wide;
    int tiles = (channels + wide - 1) / wide, places = w.rows * w.columns;
    int tile = block % tiles, place = block / tiles % places, slice = block / tiles / places;
    int i = place / w.columns, j = place % w.columns;
    each_lane
    {
        int channel = tile * wide + lane % wide;
        sum[lane] = 0.0f;
        if (lane < deep * wide && channel < channels)
            for (int pixel = slice * deep + lane / wide; pixel < pixels; pixel += slices * deep) {
                int column = pixel % w.to_width, row = pixel / w.to_width % w.to_height, image = pixel / w.to_width / w.to_height;
                int down = row * w.down + i * w.apart_down - w.above, right = column * w.right + j * w.apart_right - w.left;
                if (down >= 0 && down < w.height && right >= 0 && right < w.width)
                    sum[lane] += of_MAP(gradient[pixel * channels + channel]) *
                                 of_MAP(x[((image * w.height + down) * w.width + right) * channels + channel]);
            }
    }
    together;
    each_lane
    {
        int channel = tile * wide + lane;
        if (lane < wide && channel < channels) {
            float all = 0.0f;
            for (int other = 0; other < deep; other++) all += sum[lane + other * wide];
            sums[(slice * places + place) * channels + channel] = all;
        }
    }
}

// The largest under each window, and at which of its places it was first, if someone goes back. Not a number wins, and stays (of these the
// last): divergence must be seen.
device_function void max_pool_by_MAP(int apiece, const MAP *x, MAP *y, float *winners, Window w, int count, int channels)
{
    four_MAP largest;
    four_float places;
    each_lane each_piece(at, count, apiece)
    {
        locate(at, w.to_height, w.to_width);
        int none = 1;
        for (int i = 0; i < w.rows; i++)
            for (int j = 0; j < w.columns; j++) {
                int down = row * w.down + i - w.above, right = column * w.right + j - w.left;
                if (down < 0 || down >= w.height || right < 0 || right >= w.width) continue;
                four_MAP seen = some_MAP(x, ((image * w.height + down) * w.width + right) * channels + channel, apiece);
                for (int k = 0; k < apiece; k++) {
                    float one = of_MAP(seen.of[k]);
                    if (none || one > of_MAP(largest.of[k]) || one != one) {
                        largest.of[k] = seen.of[k];
                        places.of[k] = (float)(i * w.columns + j);
                    }
                }
                none = 0;
            }
        put_some_MAP(y, at, apiece, largest);
        if (winners) put_some_float(winners, at, apiece, places);
    }
}

kernel max_pool_MAP(const MAP *x, MAP *y, float *winners, Window w, int count, int channels)
{
    by_pieces(channels % 4 == 0 && in_fours_MAP(x) && in_fours_MAP(y) && in_fours_float(winners), max_pool_by_MAP, x, y, winners, w, count,
              channels);
}

// Each input asks the windows that see it whom they chose: nothing is added to by two at once.
device_function void max_pool_back_by_MAP(int apiece, const float *winners, const MAP *gradient, MAP *of_x, Window w, int count,
                                          int channels)
{
    four_MAP made;
    each_lane each_piece(at, count, apiece)
    {
        locate(at, w.height, w.width);
        float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        int last_down = (row + w.above) / w.down, last_right = (column + w.left) / w.right;
        for (int down = first_reader(row + w.above, w.rows, w.down); down <= last_down && down < w.to_height; down++)
            for (int right = first_reader(column + w.left, w.columns, w.right); right <= last_right && right < w.to_width; right++) {
                int to = ((image * w.to_height + down) * w.to_width + right) * channels + channel;
                float place = (float)((row + w.above - down * w.down) * w.columns + column + w.left - right * w.right);
                four_float winner = some_float(winners, to, apiece);
                four_MAP given = some_MAP(gradient, to, apiece);
                for (int k = 0; k < apiece; k++)
                    if (winner.of[k] == place) sum[k] += of_MAP(given.of[k]);
            }
        for (int k = 0; k < apiece; k++) made.of[k] = to_MAP(sum[k]);
        put_some_MAP(of_x, at, apiece, made);
    }
}

kernel max_pool_back_MAP(const float *winners, const MAP *gradient, MAP *of_x, Window w, int count, int channels)
{
    by_pieces(channels % 4 == 0 && in_fours_float(winners) && in_fours_MAP(gradient) && in_fours_MAP(of_x), max_pool_back_by_MAP, winners,
              gradient, of_x, w, count, channels);
}
