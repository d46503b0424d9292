// One number at a time.

kernel relu_MAP(const MAP *x, MAP *y, int count)
{
    // Asked this way round, a NaN stays a NaN: divergence must be seen.
    each(at, count) y[at] = of_MAP(x[at]) <= 0.0f ? to_MAP(0.0f) : x[at];
}

// What of a gradient passes where `y` is positive.
kernel gate_MAP(const MAP *y, const MAP *gradient, MAP *of_x, int count)
{
    each(at, count) of_x[at] = of_MAP(y[at]) <= 0.0f ? to_MAP(0.0f) : gradient[at];
}

kernel magnitude(const float *x, float *y, int count)
{
    each(at, count) y[at] = fabsf(x[at]);
}

kernel turn(const float *x, const float *gradient, float *of_x, int count)
{
    each(at, count) of_x[at] = x[at] == 0.0f ? 0.0f : x[at] < 0.0f ? -gradient[at] : gradient[at];
}

kernel sigmoid(const float *x, float *y, int count)
{
    each(at, count) y[at] = 1.0f / (1.0f + expf(-x[at]));
}

kernel sigmoid_back(const float *y, const float *gradient, float *of_x, int count)
{
    each(at, count) of_x[at] = gradient[at] * y[at] * (1.0f - y[at]);
}

kernel total_MAP(const MAP *a, const MAP *b, MAP *y, int count)
{
    each(at, count) y[at] = to_MAP(of_MAP(a[at]) + of_MAP(b[at]));
}

kernel narrow(const float *x, bf16 *y, int count)
{
    each(at, count) y[at] = to_bf16(x[at]);
}

kernel widen(const bf16 *x, float *y, int count)
{
    each(at, count) y[at] = of_bf16(x[at]);
}

kernel normalize(const float *x, float *y, int count, float red, float green, float blue, float red_std,
                 float green_std, float blue_std)
{
    each(at, count)
    {
        int colour = at % 3;
        float mean = colour == 0 ? red : colour == 1 ? green : blue;
        float std = colour == 0 ? red_std : colour == 1 ? green_std : blue_std;
        y[at] = (x[at] - mean) / std;
    }
}
