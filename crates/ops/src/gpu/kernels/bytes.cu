// Images in [0, 1], changed as the bytes that they are.

device_function int byte_of(float x)
{
    return (int)floorf(fminf(fmaxf(x * 255.0f, 0.0f), 255.0f) + 0.5f);
}

kernel inverted(const float *x, float *y, int count)
{
    each(at, count) y[at] = (float)(255 - byte_of(x[at])) / 255.0f;
}

// A block takes a channel of an image, and a lane of it what one of the 256 bytes becomes.
kernel equalized(const float *x, float *y, int count, int pixels, int channels)
{
    shared int counts[LANES], becomes[LANES];
    for (int one = block; one < count; one += blocks)
    {
        int first = one / channels * pixels * channels + one % channels;
        each_lane
        {
            counts[lane] = 0;
            for (int pixel = 0; pixel < pixels; pixel++) counts[lane] += byte_of(x[first + pixel * channels]) == lane;
        }
        together;
        each_lane if (lane == 0)
        {
            int last = LANES - 1;
            while (last > 0 && counts[last] == 0) last--;
            int step = (pixels - counts[last]) / 255, below = step / 2;
            for (int byte = 0; byte < LANES; byte++)
            {
                int to = step ? below / step : byte;
                becomes[byte] = to < 255 ? to : 255;
                below += counts[byte];
            }
        }
        together;
        each_lane for (int pixel = lane; pixel < pixels; pixel += LANES)
        {
            int at = first + pixel * channels;
            y[at] = (float)becomes[byte_of(x[at])] / 255.0f;
        }
        together;
    }
}

