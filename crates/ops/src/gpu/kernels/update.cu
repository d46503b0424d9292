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

kernel sgd(Tensors weights, Tensors velocities, Tensors grads, Firsts first, int count, float lr, float momentum, float take,
           float decay, float now, float then)
{
    each(number, count)
    {
        find(number, first);
        float *weight = weights.of[one] + at, *velocity = velocities.of[one] + at;
        float slope = grads.of[one][at] + decay * *weight;
        *velocity = momentum * *velocity + take * slope;
        *weight -= lr * (now * slope + then * *velocity);
    }
}

kernel adam(Tensors weights, Tensors firsts, Tensors seconds, Tensors grads, Firsts first, int count, float beta1, float beta2,
            float take1, float take2, float keep, float decay, float rate, float root, float eps)
{
    each(number, count)
    {
        find(number, first);
        float *weight = weights.of[one] + at, *mean = firsts.of[one] + at, *square = seconds.of[one] + at;
        float slope = grads.of[one][at] + decay * *weight;
        *mean = beta1 * *mean + take1 * slope;
        *square = beta2 * *square + take2 * slope * slope;
        *weight = keep * *weight - rate * *mean / (sqrtf(*square) / root + eps);
    }
}
