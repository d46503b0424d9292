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

// The first of the largest under the window at (row, column) of the output: where it lies in x.
device_function int largest_MAP(const MAP *x, Window w, int image, int row, int column, int channel, int channels)
{
    int best = -1;
    for (int i = 0; i < w.rows; i++)
        for (int j = 0; j < w.columns; j++) {
            int down = row * w.down + i - w.above, right = column * w.right + j - w.left;
            if (down < 0 || down >= w.height || right < 0 || right >= w.width) continue;
            int at = ((image * w.height + down) * w.width + right) * channels + channel;
            // Not a number wins, and stays: divergence must be seen.
            float one = of_MAP(x[at]);
            if (best < 0 || one > of_MAP(x[best]) || one != one) best = at;
        }
    return best;
}

kernel max_pool_MAP(const MAP *x, MAP *y, Window w, int count, int channels)
{
    each(at, count)
    {
        locate(at, w.to_height, w.to_width);
        y[at] = x[largest_MAP(x, w, image, row, column, channel, channels)];
    }
}

// Whether the window at (row, column) of the output, which holds what is at `at`, chose it: the first such number, or of those that
// are none the last.
device_function int chose_MAP(const MAP *x, Window w, int image, int row, int column, int channel, int channels, int at)
{
    float own = of_MAP(x[at]);
    for (int i = 0; i < w.rows; i++)
        for (int j = 0; j < w.columns; j++) {
            int down = row * w.down + i - w.above, right = column * w.right + j - w.left;
            if (down < 0 || down >= w.height || right < 0 || right >= w.width) continue;
            int other = ((image * w.height + down) * w.width + right) * channels + channel;
            if (own == own && other == at) return 1;
            float one = of_MAP(x[other]);
            if (own == own ? one == own : other > at && one != one) return 0;
        }
    return 1;
}

// Each input asks the windows that see it whom they chose: nothing is added to by two at once. Only those that hold its own number can
// have chosen it.
kernel max_pool_back_MAP(const MAP *x, const MAP *y, const MAP *gradient, MAP *of_x, Window w, int count, int channels)
{
    each(at, count)
    {
        locate(at, w.height, w.width);
        float sum = 0.0f;
        unsigned own = bits_of(of_MAP(x[at]));
        int last_down = (row + w.above) / w.down, last_right = (column + w.left) / w.right;
        for (int down = first_reader(row + w.above, w.rows, w.down); down <= last_down && down < w.to_height; down++)
            for (int right = first_reader(column + w.left, w.columns, w.right); right <= last_right && right < w.to_width; right++) {
                int to = ((image * w.to_height + down) * w.to_width + right) * channels + channel;
                if (bits_of(of_MAP(y[to])) == own && chose_MAP(x, w, image, down, right, channel, channels, at))
                    sum += of_MAP(gradient[to]);
            }
        of_x[at] = to_MAP(sum);
    }
}
