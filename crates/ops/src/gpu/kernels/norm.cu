// Batch normalisation. Sums over a batch are taken in two steps, in an order that depends on the shape alone: blocks take a
// slice of the rows and a tile of the channels each; the last that comes to its end adds the slices of its tile, a warp those of a channel.

#define TILE 64

// What a norm makes of x.
device_function float normed(float x, float slope, float lift)
{
    return x * slope + lift;
}

// Whether a ReLU behind a norm lets a gradient pass: by what it gave, which a `gate` has, or by what the norm made of x.
#define opens_MAP(gate, open, scale, x, slope, lift) \
    !((gate) ? of_MAP(open) <= 0.0f : (scale) ? of_MAP(to_MAP(normed(of_MAP(x), slope, lift))) <= 0.0f : 0)

// Of u and v: the sums of u and of u · v. With a gradient, u is what of it passes, and v = x - pivot; without one, both are x - pivot. A lane
// takes `apiece` channels, and asks for `most` rows before it adds the first.
#define ROWS_AHEAD 4
device_function void moments_by_MAP(int apiece, int most, const MAP *gradient, const MAP *gate, const MAP *x, const float *pivot,
                                    const float *scale, const float *shift, float *sums, float *products, int rows, int channels, int slices)
{
    shared float sum[4 * LANES], product[4 * LANES];
    int wide = channels < TILE ? channels : TILE, across = wide / apiece, deep = LANES / across;
    int tiles = (channels + wide - 1) / wide;
    int tile = block % tiles, slice = block / tiles, step = slices * deep;
    each_lane
    {
        int first = tile * wide + lane % across * apiece;
        int some = lane < deep * across && first < channels;
        float all[4] = {0.0f, 0.0f, 0.0f, 0.0f}, pairs[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        four_float middle = some_float(some ? pivot : 0, first, apiece);
        four_float slope = some_float(some ? scale : 0, first, apiece), lift = some_float(some ? shift : 0, first, apiece);
        for (int row = some ? slice * deep + lane / across : rows; row < rows; row += most * step) {
            four_MAP seen[ROWS_AHEAD], open[ROWS_AHEAD], given[ROWS_AHEAD];
            unrolled for (int k = 0; k < ROWS_AHEAD && k < most; k++)
            {
                int there = row < rows - k * step, at = there ? (row + k * step) * channels + first : 0;
                seen[k] = some_MAP(there ? x : 0, at, apiece);
                open[k] = some_MAP(there ? gate : 0, at, apiece);
                given[k] = some_MAP(there ? gradient : 0, at, apiece);
            }
            unrolled for (int k = 0; k < ROWS_AHEAD && k < most; k++)
                for (int i = 0; i < apiece && row < rows - k * step; i++) {
                    float v = x ? of_MAP(seen[k].of[i]) - middle.of[i] : 0.0f;
                    int passes = opens_MAP(gate, open[k].of[i], scale, seen[k].of[i], slope.of[i], lift.of[i]);
                    float u = !gradient ? v : passes ? of_MAP(given[k].of[i]) : 0.0f;
                    all[i] += u;
                    pairs[i] += u * v;
                }
        }
        for (int i = 0; i < apiece; i++) {
            sum[lane * apiece + i] = all[i];
            product[lane * apiece + i] = pairs[i];
        }
    }
    together;
    each_lane
    {
        int channel = tile * wide + lane;
        if (lane < wide && channel < channels) {
            float all = 0.0f, pairs = 0.0f;
            for (int other = 0; other < deep; other++) {
                all += sum[lane + other * wide];
                pairs += product[lane + other * wide];
            }
            sums[slice * channels + channel] = all;
            products[slice * channels + channel] = pairs;
        }
    }
}

device_function void moments_MAP(int most, const MAP *gradient, const MAP *gate, const MAP *x, const float *pivot, const float *scale,
                                 const float *shift, float *sums, float *products, int rows, int channels, int slices)
{
    int fours = channels % 4 == 0 && in_fours_MAP(gradient) && in_fours_MAP(gate) && in_fours_MAP(x) && in_fours_float(pivot) &&
                in_fours_float(scale) && in_fours_float(shift);
    by_pieces(fours, moments_by_MAP, most, gradient, gate, x, pivot, scale, shift, sums, products, rows, channels, slices);
}

// Whether this block comes last of so many; what the others have left is there then. `done` is 0 before and after.
device_function int comes_last(unsigned *done, int of)
{
    shared int last;
    fence();
    together;
    each_lane if (lane == 0) {
        last = add_one(done) == (unsigned)of - 1;
        if (last) *done = 0;
    }
    together;
    return last;
}

// Adds the slices of each channel, in double precision: lanes of a warp, then the first of them.
#define each_channels(first) for (int first = block * (LANES / WARP); first < channels; first += blocks * (LANES / WARP))
#define each_channels_of_tile(first, tile) for (int first = (tile) * TILE; first < channels && first < ((tile) + 1) * TILE; first += LANES / WARP)
#define tiles_of(channels) (((channels) + TILE - 1) / TILE)
#define gather(part, slices_of)                                                          \
    each_lane                                                                            \
    {                                                                                    \
        int channel = first + lane / WARP;                                               \
        part[lane] = 0.0;                                                                \
        if (channel < channels)                                                          \
            for (int slice = lane % WARP; slice < slices; slice += WARP)                 \
                part[lane] += fresh(slices_of + slice * channels + channel);             \
    }                                                                                    \
    together;                                                                            \
    for (int half = WARP / 2; half > 0; half /= 2) {                                     \
        each_lane if (lane % WARP < half) part[lane] += part[lane + half];               \
        together;                                                                        \
    }
#define each_first(channel) each_lane for (int channel = first + lane / WARP; lane % WARP == 0 && channel < channels; channel = channels)

kernel add_slices(const float *sums, float *totals, int channels, int slices)
{
    shared double sum[LANES];
    each_channels(first)
    {
        gather(sum, sums);
        each_first(channel) totals[channel] = (float)sum[lane];
        together;
    }
}

// The sums over all rows.
kernel column_sums_MAP(const MAP *x, float *sums, float *products, unsigned *done, float *totals, int rows, int channels, int slices)
{
    shared double sum[LANES];
    int tile = block % tiles_of(channels);
    moments_MAP(ROWS_AHEAD, x, 0, 0, 0, 0, 0, sums, products, rows, channels, slices);
    if (!comes_last(done + tile, slices)) return;
    each_channels_of_tile(first, tile)
    {
        gather(sum, sums);
        each_first(channel) totals[channel] = (float)sum[lane];
        together;
    }
}

// From the moments about `pivot`: what the batch is normalised by. The running statistics, if there are any to be taught, move
// towards the batch's; `pivot` may be the running mean itself.
kernel batch_statistics_MAP(const MAP *x, const float *pivot, float *sums, float *squares, unsigned *done, const float *weight,
                            const float *bias, float *running_mean, float *running_var, float *mean, float *inverse, float *scale,
                            float *shift, int rows, int channels, int slices, float eps, float momentum)
{
    shared double sum[LANES], square[LANES];
    int tile = block % tiles_of(channels);
    moments_MAP(ROWS_AHEAD, 0, 0, x, pivot, 0, 0, sums, squares, rows, channels, slices);
    if (!comes_last(done + tile, slices)) return;
    each_channels_of_tile(first, tile)
    {
        gather(sum, sums);
        gather(square, squares);
        each_first(channel)
        {
            double apart = sum[lane] / rows, middle = pivot[channel] + apart;
            double var = square[lane] / rows - apart * apart;
            var = var > 0.0 ? var : 0.0;
            double one_over = 1.0 / sqrt(var + eps), slope = weight[channel] * one_over;
            if (running_mean) {
                // What the statistics of unseen images will be is estimated without bias; the batch's own is not.
                float unbiased = (float)(var * rows / (rows - 1.0));
                running_mean[channel] = momentum * (float)middle + (1.0f - momentum) * running_mean[channel];
                running_var[channel] = momentum * unbiased + (1.0f - momentum) * running_var[channel];
            }
            mean[channel] = (float)middle;
            inverse[channel] = (float)one_over;
            scale[channel] = (float)slope;
            shift[channel] = (float)(bias[channel] - (float)middle * slope);
        }
        together;
    }
}

kernel running_statistics(const float *mean, const float *var, const float *weight, const float *bias, float *inverse,
                          float *scale, float *shift, int count, float eps)
{
    each(channel, count)
    {
        double one_over = 1.0 / sqrt((double)var[channel] + eps), slope = weight[channel] * one_over;
        inverse[channel] = (float)one_over;
        scale[channel] = (float)slope;
        shift[channel] = (float)(bias[channel] - mean[channel] * slope);
    }
}

// The channel of a lane's next piece, which is so many further on.
#define go_on channel += channel + further < channels ? further : further - channels

// `(x - mean?) · weight? / deviation? + bias + residual?`, rectified where that is wished.
device_function void to_y_by_MAP(int apiece, const MAP *x, const float *mean, const float *var, const float *weight, const float *bias,
                                 const MAP *residual, MAP *y, int count, int channels, float eps, int relu)
{
    four_MAP seen[AHEAD], more[AHEAD], made;
    each_lane
    {
        int channel = (block * LANES + lane) * apiece % channels, further = blocks * LANES * apiece % channels;
        each_rounds(count, apiece)
        {
            ahead(k, at)
            {
                seen[k] = some_MAP(at < count ? x : 0, at, apiece);
                more[k] = some_MAP(at < count ? residual : 0, at, apiece);
            }
            ahead(k, at)
            {
                if (at < count) {
                    four_float middle = some_float(mean, channel, apiece), spread = some_float(var, channel, apiece);
                    four_float steep = some_float(weight, channel, apiece), lift = some_float(bias, channel, apiece);
                    for (int i = 0; i < apiece; i++) {
                        float slope = var ? steep.of[i] / sqrtf(spread.of[i] + eps) : weight ? steep.of[i] : 1.0f;
                        float sum = normed(of_MAP(seen[k].of[i]) - middle.of[i], slope, lift.of[i]);
                        if (residual) sum += of_MAP(more[k].of[i]);
                        made.of[i] = to_MAP(relu && sum <= 0.0f ? 0.0f : sum);
                    }
                    put_some_MAP(y, at, apiece, made);
                }
                go_on;
            }
        }
    }
}

kernel scale_shift_MAP(const MAP *x, const float *scale, const float *shift, const MAP *residual, MAP *y, int count,
                       int channels, int relu)
{
    int fours = channels % 4 == 0 && in_fours_MAP(x) && in_fours_MAP(residual) && in_fours_MAP(y) && in_fours_float(scale) &&
                in_fours_float(shift);
    by_pieces(fours, to_y_by_MAP, x, 0, 0, scale, shift, residual, y, count, channels, 0.0f, relu);
}

// By the running statistics, at one launch: a network at rest has a result and no way back.
kernel norm_at_rest_MAP(const MAP *x, const float *mean, const float *var, const float *weight, const float *bias,
                        const MAP *residual, MAP *y, int count, int channels, float eps, int relu)
{
    int fours = channels % 4 == 0 && in_fours_MAP(x) && in_fours_MAP(residual) && in_fours_MAP(y) && in_fours_float(mean) &&
                in_fours_float(var) && in_fours_float(weight) && in_fours_float(bias);
    by_pieces(fours, to_y_by_MAP, x, mean, var, weight, bias, residual, y, count, channels, eps, relu);
}

// Ioffe and Szegedy (arXiv:1502.03167), section 3, the gradients after algorithm 1, gathered by what they multiply. `learned`
// tells whether the statistics were the batch's, which each value moved a little.
kernel norm_gradients_MAP(const MAP *gradient, const MAP *gate, const MAP *x, const float *mean, const float *scale, const float *shift,
                          float *sums, float *products, unsigned *done, const float *weight, const float *inverse, float *of_weight, float *of_bias, float *slope,
                          float *lean, float *offset, int rows, int channels, int slices, int learned)
{
    shared double sum[LANES], product[LANES];
    int tile = block % tiles_of(channels);
    moments_MAP(ROWS_AHEAD / 2, gradient, gate, x, mean, scale, shift, sums, products, rows, channels, slices);
    if (!comes_last(done + tile, slices)) return;
    each_channels_of_tile(first, tile)
    {
        gather(sum, sums);
        gather(product, products);
        each_first(channel)
        {
            double one_over = inverse[channel], steep = weight[channel] * one_over;
            of_weight[channel] = (float)(product[lane] * one_over);
            of_bias[channel] = (float)sum[lane];
            slope[channel] = (float)steep;
            lean[channel] = learned ? (float)(-steep * one_over * one_over * product[lane] / rows) : 0.0f;
            offset[channel] = learned ? (float)(-steep * sum[lane] / rows) : 0.0f;
        }
        together;
    }
}

// The gradient of x; and, where a residual wants it, what of the gradient the gate let pass.
device_function void back_by_MAP(int apiece, const MAP *gradient, const MAP *gate, const MAP *x, const float *mean, const float *scale,
                                 const float *shift, const float *slope, const float *lean, const float *offset, MAP *of_x, MAP *passed, int count, int channels)
{
    four_MAP seen[AHEAD], open[AHEAD], given[AHEAD], kept, made;
    each_lane
    {
        int channel = (block * LANES + lane) * apiece % channels, further = blocks * LANES * apiece % channels;
        each_rounds(count, apiece)
        {
            ahead(k, at)
            {
                seen[k] = some_MAP(at < count ? x : 0, at, apiece);
                open[k] = some_MAP(at < count ? gate : 0, at, apiece);
                given[k] = some_MAP(at < count ? gradient : 0, at, apiece);
            }
            ahead(k, at)
            {
                if (at < count) {
                    four_float middle = some_float(mean, channel, apiece), up = some_float(offset, channel, apiece);
                    four_float steep = some_float(slope, channel, apiece), aside = some_float(lean, channel, apiece);
                    four_float forth = some_float(scale, channel, apiece), lift = some_float(shift, channel, apiece);
                    for (int i = 0; i < apiece; i++) {
                        int passes = opens_MAP(gate, open[k].of[i], scale, seen[k].of[i], forth.of[i], lift.of[i]);
                        float pass = passes ? of_MAP(given[k].of[i]) : 0.0f;
                        kept.of[i] = to_MAP(pass);
                        made.of[i] = to_MAP(steep.of[i] * pass + aside.of[i] * (of_MAP(seen[k].of[i]) - middle.of[i]) + up.of[i]);
                    }
                    if (passed) put_some_MAP(passed, at, apiece, kept);
                    put_some_MAP(of_x, at, apiece, made);
                }
                go_on;
            }
        }
    }
}

kernel norm_back_MAP(const MAP *gradient, const MAP *gate, const MAP *x, const float *mean, const float *scale, const float *shift,
                     const float *slope, const float *lean, const float *offset, MAP *of_x, MAP *passed, int count, int channels)
{
    int fours = channels % 4 == 0 && in_fours_MAP(gradient) && in_fours_MAP(gate) && in_fours_MAP(x) && in_fours_MAP(of_x) &&
                in_fours_MAP(passed) && in_fours_float(mean) && in_fours_float(scale) && in_fours_float(shift) && in_fours_float(slope) &&
                in_fours_float(lean) && in_fours_float(offset);
    by_pieces(fours, back_by_MAP, gradient, gate, x, mean, scale, shift, slope, lean, offset, of_x, passed, count, channels);
}
