// Steps of optimisers, in place, for many tensors at once: on small networks a launch each would take longer than the steps.

// For number `number` of all: `one`, the tensor that has it, and `at`, where it is there. No function: its copy of `first` could lie
// in a lane's own memory, which is far.
#define find(number, first)                                  \
    int one = 0;                                             \
    for (int half = MANY / 2; half > 0; half /= 2)           \
        if ((first).of[one + half] <= (number)) one += half; \
    int at = (number) - (first).of[one]

kernel axpby(Tensors y, Tensors x, Firsts first, int count, float a, float b)
{
    each(number, count)
    {
        find(number, first);
        y.of[one][at] = a * x.of[one][at] + b * y.of[one][at];
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
