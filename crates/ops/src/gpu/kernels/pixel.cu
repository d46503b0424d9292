// Number by number, four at a time where a kernel has little to do with them.

// Of those of `a` and `b`, which are called `one` and `other`: `value`.
#define pieces_of_MAP(value)                                                                   \
    four_MAP of_a[AHEAD], of_b[AHEAD], made;                                                   \
    each_lane each_rounds(count, apiece)                                                       \
    {                                                                                          \
        ahead(k, at)                                                                           \
        {                                                                                      \
            of_a[k] = some_MAP(at < count ? a : 0, at, apiece);                                \
            of_b[k] = some_MAP(at < count ? b : 0, at, apiece);                                \
        }                                                                                      \
        ahead(k, at) if (at < count)                                                           \
        {                                                                                      \
            for (int i = 0; i < apiece; i++) {                                                 \
                MAP one = of_a[k].of[i], other = of_b[k].of[i];                                \
                made.of[i] = value;                                                            \
            }                                                                                  \
            put_some_MAP(y, at, apiece, made);                                                 \
        }                                                                                      \
    }
#define fours_MAP (count % 4 == 0 && in_fours_MAP(a) && in_fours_MAP(b) && in_fours_MAP(y))

// Asked this way round, a NaN stays a NaN: divergence must be seen.
device_function void gate_by_MAP(int apiece, const MAP *a, const MAP *b, MAP *y, int count)
{
    pieces_of_MAP(of_MAP(one) <= 0.0f ? to_MAP(0.0f) : other);
}

device_function void total_by_MAP(int apiece, const MAP *a, const MAP *b, MAP *y, int count)
{
    pieces_of_MAP(to_MAP(of_MAP(one) + of_MAP(other)));
}

kernel relu_MAP(const MAP *a, MAP *y, int count)
{
    const MAP *b = a;
    by_pieces(fours_MAP, gate_by_MAP, a, b, y, count);
}

// What of a gradient passes where `a` is positive.
kernel gate_MAP(const MAP *a, const MAP *b, MAP *y, int count)
{
    by_pieces(fours_MAP, gate_by_MAP, a, b, y, count);
}

kernel total_MAP(const MAP *a, const MAP *b, MAP *y, int count)
{
    by_pieces(fours_MAP, total_by_MAP, a, b, y, count);
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

// From one type to the other, likewise.
#define pieces_to(from, to)                                                                    \
    four_##from seen[AHEAD];                                                                   \
    four_##to made;                                                                            \
    each_lane each_rounds(count, apiece)                                                       \
    {                                                                                          \
        ahead(k, at) seen[k] = some_##from(at < count ? x : 0, at, apiece);                    \
        ahead(k, at) if (at < count)                                                           \
        {                                                                                      \
            for (int i = 0; i < apiece; i++) made.of[i] = to_##to(of_##from(seen[k].of[i]));   \
            put_some_##to(y, at, apiece, made);                                                \
        }                                                                                      \
    }

device_function void narrow_by(int apiece, const float *x, bf16 *y, int count)
{
    pieces_to(float, bf16);
}

device_function void widen_by(int apiece, const bf16 *x, float *y, int count)
{
    pieces_to(bf16, float);
}

kernel narrow(const float *x, bf16 *y, int count)
{
    by_pieces(count % 4 == 0 && in_fours_float(x) && in_fours_bf16(y), narrow_by, x, y, count);
}

kernel widen(const bf16 *x, float *y, int count)
{
    by_pieces(count % 4 == 0 && in_fours_bf16(x) && in_fours_float(y), widen_by, x, y, count);
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
