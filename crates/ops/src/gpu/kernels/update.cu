// Steps of optimisers, in place.

kernel axpby(float *y, const float *x, int count, float a, float b)
{
    each(at, count) y[at] = a * x[at] + b * y[at];
}

kernel sgd(float *weight, float *velocity, const float *grad, int count, float lr, float momentum, float take, float decay,
           int nesterov)
{
    each(at, count)
    {
        float slope = grad[at] + decay * weight[at];
        float fast = momentum * velocity[at] + take * slope;
        velocity[at] = fast;
        weight[at] -= lr * (nesterov ? slope + momentum * fast : fast);
    }
}

kernel adam(float *weight, float *first, float *second, const float *grad, int count, float beta1, float beta2, float take1,
            float take2, float keep, float decay, float rate, float root, float eps)
{
    each(at, count)
    {
        float slope = grad[at] + decay * weight[at];
        first[at] = beta1 * first[at] + take1 * slope;
        second[at] = beta2 * second[at] + take2 * slope * slope;
        weight[at] = keep * weight[at] - rate * first[at] / (sqrtf(second[at]) / root + eps);
    }
}
