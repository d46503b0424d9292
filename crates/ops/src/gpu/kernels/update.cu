// Steps of optimisers, in place, for many tensors at once: on small networks a launch each would take longer than the steps.

// Which of the tensors has number `at`.
device_function int owner(Firsts first, int at)
{
    int low = 0;
    for (int half = MANY / 2; half > 0; half /= 2)
        if (first.of[low + half] <= at) low += half;
    return low;
}

kernel axpby(Tensors y, Tensors x, Firsts first, int count, float a, float b)
{
    each(number, count)
    {
        int one = owner(first, number), at = number - first.of[one];
        y.of[one][at] = a * x.of[one][at] + b * y.of[one][at];
    }
}

kernel sgd(Tensors weights, Tensors velocities, Tensors grads, Firsts first, int count, float lr, float momentum, float take,
           float decay, float now, float then)
{
    each(number, count)
    {
        int one = owner(first, number), at = number - first.of[one];
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
        int one = owner(first, number), at = number - first.of[one];
        float *weight = weights.of[one] + at, *mean = firsts.of[one] + at, *square = seconds.of[one] + at;
        float slope = grads.of[one][at] + decay * *weight;
        *mean = beta1 * *mean + take1 * slope;
        *square = beta2 * *square + take2 * slope * slope;
        *weight = keep * *weight - rate * *mean / (sqrtf(*square) / root + eps);
    }
}
