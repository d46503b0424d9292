// Steps of optimisers, in place, for many tensors at once: on small networks a launch each would take longer than the steps.

// For number `number` of all: `one`, the tensor that has it, and `at`, where it is there. No function: its copy of `first` could lie
// in a lane's own memory, which is far.
#define find(number, first)                                  \
    int one = 0;                                             \
    for (int half = MANY / 2; half > 0; half /= 2)           \
        if ((first).of[one + half] <= (number)) one += half; \
    int at = (number) - (first).of[one]

// With what stands at `by` for `a`, where that is somewhere; what was there is not read where `b` is 0.
kernel axpby(Tensors y, Tensors x, Firsts first, int count, const float *by, float a, float b)
{
    each(number, count)
    {
        find(number, first);
        float way = (by ? *by : a) * x.of[one][at];
        y.of[one][at] = b == 0.0f ? way : way + b * y.of[one][at];
    }
}

// `rates`: learning rate, momentum, what the velocity takes of the slope, decay; how far the weight goes by the slope itself and by
// the velocity.
kernel sgd(Tensors weights, Tensors velocities, Tensors grads, Firsts first, int count, const float *rates)
{
    each(number, count)
    {
        find(number, first);
        float *weight = weights.of[one] + at, *velocity = velocities.of[one] + at;
        float slope = grads.of[one][at] + rates[3] * *weight;
        *velocity = rates[1] * *velocity + rates[2] * slope;
        *weight -= rates[0] * (rates[4] * slope + rates[5] * *velocity);
    }
}

// `rates`: what stays of each moment, what it takes, how much of the weight stays, the decay in its gradient, the rate, the root of
// what the second moment is short of, and what is added to its own.
kernel adam(Tensors weights, Tensors firsts, Tensors seconds, Tensors grads, Firsts first, int count, const float *rates)
{
    each(number, count)
    {
        find(number, first);
        float *weight = weights.of[one] + at, *mean = firsts.of[one] + at, *square = seconds.of[one] + at;
        float slope = grads.of[one][at] + rates[5] * *weight;
        *mean = rates[0] * *mean + rates[2] * slope;
        *square = rates[1] * *square + rates[3] * slope * slope;
        *weight = rates[4] * *weight - rates[6] * *mean / (sqrtf(*square) / rates[7] + rates[8]);
    }
}

// Rows of `width` numbers, each in its place among `all`: of those for one place, the last.
kernel put_rows(float *place, const unsigned *rows, const float *values, int count, int width, int all)
{
    each(at, count)
    {
        unsigned row = rows[at / width];
        int put = row < (unsigned)all;
        for (int later = at / width + 1; later < count / width; later++) put = put && rows[later] != row;
        if (put) place[(int)row * width + at % width] = values[at];
    }
}

// Of the squares of all numbers, the sum of those that a block goes through, in place `part` and behind.
kernel parts_of_norm(Tensors x, Firsts first, int count, float *parts, int part)
{
    shared double sum[LANES];
    each_lane
    {
        sum[lane] = 0.0;
        for (int number = block * LANES + lane; number < count; number += blocks * LANES)
        {
            find(number, first);
            sum[lane] += (double)x.of[one][at] * x.of[one][at];
        }
    }
    together;
    add_up_block(sum);
    each_lane if (lane == 0) parts[part + block] = (float)sum[0];
}

// The root of the sum of all parts, and by what it becomes at most `most`.
kernel norm_and_scale(const float *parts, float *norm, int count, float most)
{
    shared double sum[LANES];
    each_lane
    {
        sum[lane] = 0.0;
        for (int at = lane; at < count; at += LANES) sum[lane] += parts[at];
    }
    together;
    add_up_block(sum);
    each_lane if (lane == 0)
    {
        double scale = most / (sqrt(sum[0]) + 1e-6);
        norm[0] = (float)sqrt(sum[0]);
        norm[1] = scale < 1.0 ? (float)scale : 1.0f;
    }
}

kernel scaled(Tensors y, Tensors x, Firsts first, int count, const float *norm)
{
    each(number, count)
    {
        find(number, first);
        y.of[one][at] = norm[1] * x.of[one][at];
    }
}

// The mean of each term's values, in double precision: a warp takes a term.
#define means_of_terms(mean)                                                                                          \
    for (int term = 0; term < terms; term += LANES / WARP) {                                                          \
        each_lane                                                                                                     \
        {                                                                                                             \
            int one = term + lane / WARP;                                                                             \
            sum[lane] = 0.0;                                                                                          \
            if (one >= terms) continue;                                                                               \
            int numbers = (one + 1 < terms ? first.of[one + 1] : count) - first.of[one];                              \
            for (int at = lane % WARP; at < numbers; at += WARP) sum[lane] += values.of[one][at] / (double)numbers;   \
        }                                                                                                             \
        together;                                                                                                     \
        add_up(sum);                                                                                                  \
        each_lane if (lane % WARP == 0 && term + lane / WARP < terms) mean[term + lane / WARP] = sum[lane];           \
        together;                                                                                                     \
    }

// What terms come to: to the sum of each, in double precision, its mean times `images`; to the one behind them, all by weight.
kernel tally(Tensors sums, Tensors values, Firsts first, int count, Floats weights, int terms, float images, float *means)
{
    shared double sum[LANES], mean[MANY];
    means_of_terms(mean);
    each_lane for (int one = lane; one < terms; one += LANES)
    {
        means[one] = (float)mean[one];
        ((double *)sums.of[one])[0] += images * mean[one];
    }
    each_lane if (lane == 0)
    {
        double loss = 0.0;
        for (int one = 0; one < terms; one++) loss += weights.of[one] * mean[one];
        ((double *)sums.of[terms])[0] += images * loss;
    }
}

// The same by weight alone, and what each number of their values has of that.
kernel weighted_means(Tensors values, Firsts first, int count, Floats weights, int terms, float *y)
{
    shared double sum[LANES], mean[MANY];
    means_of_terms(mean);
    each_lane if (lane == 0)
    {
        double all = 0.0;
        for (int one = 0; one < terms; one++) all += weights.of[one] * mean[one];
        *y = (float)all;
    }
}

kernel share_out(Tensors y, Firsts first, int count, Floats shares, const float *gradient)
{
    each(number, count)
    {
        find(number, first);
        y.of[one][at] = shares.of[one] * *gradient;
    }
}

// Matrices with their columns for rows: from single precision to maps' type, and back.
kernel turn_to_MAP(Tensors y, Tensors x, Firsts first, int count, Floats rows, Floats columns)
{
    each(number, count)
    {
        find(number, first);
        int deep = (int)rows.of[one], wide = (int)columns.of[one];
        ((MAP *)y.of[one])[at] = to_MAP(x.of[one][at % deep * wide + at / deep]);
    }
}

kernel turn_back_MAP(Tensors y, Tensors x, Firsts first, int count, Floats rows, Floats columns)
{
    each(number, count)
    {
        find(number, first);
        int deep = (int)rows.of[one], wide = (int)columns.of[one];
        y.of[one][at] = of_MAP(((const MAP *)x.of[one])[at % deep * wide + at / deep]);
    }
}
