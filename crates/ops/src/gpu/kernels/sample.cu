// Maps of another size, and maps seen through a grid.

// Output line i is the sum of weights[k] · line inputs[k], for k from starts[i] to starts[i + 1], along both axes.
kernel resample_MAP(const MAP *x, const unsigned *row_starts, const unsigned *row_inputs, const float *row_weights,
                    const unsigned *column_starts, const unsigned *column_inputs, const float *column_weights, MAP *y, int count,
                    int height, int width, int to_height, int to_width, int channels)
{
    each(at, count)
    {
        int channel = at % channels, column = at / channels % to_width;
        int row = at / channels / to_width % to_height, image = at / channels / to_width / to_height;
        float sum = 0.0f;
        for (unsigned i = row_starts[row]; i < row_starts[row + 1]; i++)
            for (unsigned j = column_starts[column]; j < column_starts[column + 1]; j++)
                sum += row_weights[i] * column_weights[j] *
                       of_MAP(x[((image * height + (int)row_inputs[i]) * width + (int)column_inputs[j]) * channels + channel]);
        y[at] = to_MAP(sum);
    }
}

#define BORDER 1
#define REFLECTION 2

// A coordinate in pixels, and how it changes with the grid's.
typedef struct {
    float at, slope;
} Place;

device_function Place clip(Place place, float length)
{
    // No slope where it clips, nor on the bound itself.
    if (place.at <= 0.0f) {
        place.at = place.slope = 0.0f;
    } else if (place.at >= length - 1.0f) {
        place.at = length - 1.0f;
        place.slope = 0.0f;
    }
    return place;
}

// Back and forth between `low` and `low + span`.
device_function Place reflect(Place place, float low, float span)
{
    if (span <= 0.0f) {
        place.at = place.slope = 0.0f;
        return place;
    }
    float from_low = place.at - low, distance = fabsf(from_low), flips = floorf(distance / span);
    float rest = fmodf(distance, span), slope = from_low < 0.0f ? -place.slope : place.slope;
    int odd = fmodf(flips, 2.0f) != 0.0f;
    place.at = (odd ? span - rest : rest) + low;
    place.slope = odd ? -slope : slope;
    return place;
}

// From [-1, 1] to pixels, padding applied; in PyTorch's order of operations, so that whole pixels come out whole.
device_function Place place_of(float at, int pixels, int padding, int align_corners)
{
    float length = (float)pixels;
    Place place;
    place.at = align_corners ? (at + 1.0f) * 0.5f * (length - 1.0f) : ((at + 1.0f) * length - 1.0f) / 2.0f;
    place.slope = align_corners ? (length - 1.0f) / 2.0f : length / 2.0f;
    if (padding == REFLECTION) place = align_corners ? reflect(place, 0.0f, length - 1.0f) : reflect(place, -0.5f, length);
    return padding ? clip(place, length) : place;
}

// A pixel that a sample reads: its number in the map, -1 outside; its weight, and how that changes with the grid's x and y.
typedef struct {
    int pixel;
    float weight, by_x, by_y;
} Corner;

device_function int pixel_at(float row, float column, int height, int width)
{
    int inside = row >= 0.0f && row < (float)height && column >= 0.0f && column < (float)width;
    return inside ? (int)row * width + (int)column : -1;
}

// One of the four pixels around a place.
device_function Corner corner_of(Place x, Place y, int corner, int height, int width)
{
    float left = floorf(x.at), top = floorf(y.at);
    int far_right = corner % 2, far_down = corner / 2;
    float wide = far_right ? x.at - left : left + 1.0f - x.at, high = far_down ? y.at - top : top + 1.0f - y.at;
    Corner seen;
    seen.pixel = pixel_at(top + (float)far_down, left + (float)far_right, height, width);
    seen.weight = wide * high;
    seen.by_x = (far_right ? high : -high) * x.slope;
    seen.by_y = (far_down ? wide : -wide) * y.slope;
    return seen;
}

// The pixels that a sample at (x, y) reads; how many.
device_function int corners_of(const float *at, Corner corners[4], int height, int width, int nearest, int padding,
                               int align_corners)
{
    Place x = place_of(at[0], width, padding, align_corners), y = place_of(at[1], height, padding, align_corners);
    if (nearest) {
        corners[0].pixel = pixel_at(rintf(y.at), rintf(x.at), height, width);
        corners[0].weight = 1.0f;
        corners[0].by_x = corners[0].by_y = 0.0f;
        return 1;
    }
    for (int corner = 0; corner < 4; corner++) corners[corner] = corner_of(x, y, corner, height, width);
    return 4;
}

kernel grid_sample(const float *x, const float *grid, float *y, int count, int height, int width, int pixels, int channels,
                   int nearest, int padding, int align_corners)
{
    each(at, count)
    {
        int channel = at % channels, sample = at / channels, image = sample / pixels;
        Corner corners[4];
        int seen = corners_of(grid + 2 * sample, corners, height, width, nearest, padding, align_corners);
        float sum = 0.0f;
        for (int corner = 0; corner < seen; corner++)
            if (corners[corner].pixel >= 0)
                sum += corners[corner].weight * x[(image * height * width + corners[corner].pixel) * channels + channel];
        y[at] = sum;
    }
}

// The map's gradient: a channel of an image is one lane's, of `count`, so that sums keep their order.
kernel grid_sample_map(const float *grid, const float *gradient, float *of_x, int count, int height, int width, int pixels,
                       int channels, int nearest, int padding, int align_corners)
{
    each(at, count)
    {
        int channel = at % channels, image = at / channels;
        for (int pixel = 0; pixel < height * width; pixel++) of_x[(image * height * width + pixel) * channels + channel] = 0.0f;
        for (int sample = image * pixels; sample < (image + 1) * pixels; sample++) {
            Corner corners[4];
            int seen = corners_of(grid + 2 * sample, corners, height, width, nearest, padding, align_corners);
            for (int corner = 0; corner < seen; corner++)
                if (corners[corner].pixel >= 0)
                    of_x[(image * height * width + corners[corner].pixel) * channels + channel] +=
                        corners[corner].weight * gradient[sample * channels + channel];
        }
    }
}

kernel grid_sample_grid(const float *x, const float *grid, const float *gradient, float *of_grid, int count, int height,
                        int width, int pixels, int channels, int nearest, int padding, int align_corners)
{
    each(sample, count)
    {
        int image = sample / pixels;
        Corner corners[4];
        int seen = corners_of(grid + 2 * sample, corners, height, width, nearest, padding, align_corners);
        float by_x = 0.0f, by_y = 0.0f;
        for (int corner = 0; corner < seen; corner++) {
            if (corners[corner].pixel < 0) continue;
            const float *from = x + (image * height * width + corners[corner].pixel) * channels;
            float product = 0.0f;
            for (int channel = 0; channel < channels; channel++) product += from[channel] * gradient[sample * channels + channel];
            by_x += product * corners[corner].by_x;
            by_y += product * corners[corner].by_y;
        }
        of_grid[2 * sample] = by_x;
        of_grid[2 * sample + 1] = by_y;
    }
}
