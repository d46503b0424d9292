// What several processes have to say, one behind the other.

// Their mean, each counting for its weight, in the order of their ranks. A product of two numbers of single precision is exact in
// double precision: these are the bits that `World::mean` comes to.
kernel mean_of_ranks(const float *parts, const float *weights, float *y, int count, int ranks)
{
    each(at, count)
    {
        double sum = 0.0, all = 0.0;
        for (int rank = 0; rank < ranks; rank++) {
            sum += (double)weights[rank] * (double)parts[rank * count + at];
            all += (double)weights[rank];
        }
        y[at] = (float)(sum / all);
    }
}

