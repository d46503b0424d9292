// Channels put elsewhere.

// Channel order[i] in place i.
kernel permute_channels_MAP(const MAP *x, const unsigned *order, MAP *y, int count, int channels)
{
    each(at, count) y[at] = x[at - at % channels + (int)order[at % channels]];
}

// Read as (groups, channels / groups), transposed.
kernel shuffle_channels_MAP(const MAP *x, MAP *y, int count, int channels, int groups)
{
    each(at, count)
    {
        int place = at % channels;
        y[at] = x[at - place + place % groups * (channels / groups) + place / groups];
    }
}

kernel concat_channels_MAP(const MAP *a, const MAP *b, MAP *y, int count, int left, int right)
{
    each(at, count)
    {
        int pixel = at / (left + right), place = at % (left + right);
        y[at] = place < left ? a[pixel * left + place] : b[pixel * right + place - left];
    }
}

// `to` channels of `from`, from channel `start`.
kernel choose_channels_MAP(const MAP *x, MAP *y, int count, int from, int to, int start)
{
    each(at, count) y[at] = x[at / to * from + start + at % to];
}

// The way back: zeros around them.
kernel return_channels_MAP(const MAP *gradient, MAP *of_x, int count, int from, int to, int start)
{
    each(at, count)
    {
        int place = at % from - start;
        of_x[at] = place >= 0 && place < to ? gradient[at / from * to + place] : to_MAP(0.0f);
    }
}
