// Vectors along the last axis, `WARP` lanes for each.

#define each_rows(first) for (int first = block * (LANES / WARP); first < rows; first += blocks * (LANES / WARP))
#define each_of_row(row, at)                             \
    for (int row = first + lane / WARP; row < rows; row = rows) \
        for (int at = row * width + lane % WARP; at < (row + 1) * width; at += WARP)

// Where the first lane of this lane's row left its sum.
#define own(part) part[lane / WARP * WARP]

#define add_up(part)                                            \
    for (int half = WARP / 2; half > 0; half /= 2) {            \
        each_lane if (lane % WARP < half) part[lane] += part[lane + half]; \
        together;                                               \
    }

// The largest of each row.
#define largest_of(x, most)                                                                              \
    each_lane                                                                                            \
    {                                                                                                    \
        most[lane] = NOTHING_YET;                                                                        \
        each_of_row(row, at) most[lane] = x[at] > most[lane] ? x[at] : most[lane];                       \
    }                                                                                                    \
    together;                                                                                            \
    for (int half = WARP / 2; half > 0; half /= 2) {                                                     \
        each_lane if (lane % WARP < half && most[lane + half] > most[lane]) most[lane] = most[lane + half]; \
        together;                                                                                        \
    }

// `most`, the largest of each row, and `sum`, Σ exp(x - most).
#define powers_of(x)                                             \
    largest_of(x, most);                                         \
    each_lane                                                    \
    {                                                            \
        sum[lane] = 0.0;                                         \
        each_of_row(row, at) sum[lane] += expf(x[at] - own(most)); \
    }                                                            \
    together;                                                    \
    add_up(sum);

kernel log_softmax(const float *x, float *y, int width, int rows)
{
    shared float most[LANES];
    shared double sum[LANES];
    each_rows(first)
    {
        powers_of(x);
        each_lane each_of_row(row, at) y[at] = x[at] - own(most) - (float)log(own(sum));
        together;
    }
}

kernel log_softmax_back(const float *y, const float *gradient, float *of_x, int width, int rows)
{
    shared double sum[LANES];
    each_rows(first)
    {
        each_lane
        {
            sum[lane] = 0.0;
            each_of_row(row, at) sum[lane] += gradient[at];
        }
        together;
        add_up(sum);
        each_lane each_of_row(row, at) of_x[at] = gradient[at] - expf(y[at]) * (float)own(sum);
        together;
    }
}

kernel softmax(const float *x, float *y, int width, int rows)
{
    shared float most[LANES];
    shared double sum[LANES];
    each_rows(first)
    {
        powers_of(x);
        each_lane each_of_row(row, at) y[at] = expf(x[at] - own(most)) * (float)(1.0 / own(sum));
        together;
    }
}

kernel softmax_back(const float *y, const float *gradient, float *of_x, int width, int rows)
{
    shared double mean[LANES];
    each_rows(first)
    {
        each_lane
        {
            mean[lane] = 0.0;
            each_of_row(row, at) mean[lane] += (double)y[at] * gradient[at];
        }
        together;
        add_up(mean);
        each_lane each_of_row(row, at) of_x[at] = y[at] * (gradient[at] - (float)own(mean));
        together;
    }
}

kernel soft_cross_entropy(const float *targets, const float *scores, float *y, int width, int rows)
{
    shared float most[LANES];
    shared double sum[LANES], cross[LANES];
    each_rows(first)
    {
        powers_of(scores);
        each_lane
        {
            double log_sum = log(own(sum));
            cross[lane] = 0.0;
            each_of_row(row, at) cross[lane] += targets[at] * (log_sum - (scores[at] - own(most)));
        }
        together;
        add_up(cross);
        each_lane
        {
            int row = first + lane / WARP;
            if (lane % WARP == 0 && row < rows) y[row] = (float)cross[lane];
        }
        together;
    }
}

kernel soft_cross_entropy_of_targets(const float *scores, const float *gradient, float *of_targets, int width, int rows)
{
    shared float most[LANES];
    shared double sum[LANES];
    each_rows(first)
    {
        powers_of(scores);
        each_lane
        {
            float log_sum = (float)log(own(sum));
            each_of_row(row, at) of_targets[at] = gradient[row] * (log_sum - (scores[at] - own(most)));
        }
        together;
    }
}

kernel soft_cross_entropy_of_scores(const float *targets, const float *scores, const float *gradient, float *of_scores, int width, int rows)
{
    shared float most[LANES];
    shared double sum[LANES], all[LANES];
    each_rows(first)
    {
        powers_of(scores);
        each_lane
        {
            all[lane] = 0.0;
            each_of_row(row, at) all[lane] += targets[at];
        }
        together;
        add_up(all);
        each_lane
        {
            float share = (float)(own(all) / own(sum));
            each_of_row(row, at) of_scores[at] = gradient[row] * (share * expf(scores[at] - own(most)) - targets[at]);
        }
        together;
    }
}

// Scaled to length 1; what is shorter than `SHORT` is only divided by it.
#define SHORT 1e-12f

kernel unit(const float *x, float *y, int width, int rows)
{
    shared double square[LANES];
    each_rows(first)
    {
        each_lane
        {
            square[lane] = 0.0;
            each_of_row(row, at) square[lane] += (double)x[at] * x[at];
        }
        together;
        add_up(square);
        each_lane
        {
            float length = (float)sqrt(own(square));
            each_of_row(row, at) y[at] = x[at] * (1.0f / (length > SHORT ? length : SHORT));
        }
        together;
    }
}

kernel unit_back(const float *x, const float *y, const float *gradient, float *of_x, int width, int rows)
{
    shared double square[LANES], product[LANES];
    each_rows(first)
    {
        each_lane
        {
            square[lane] = product[lane] = 0.0;
            each_of_row(row, at)
            {
                square[lane] += (double)x[at] * x[at];
                product[lane] += (double)y[at] * gradient[at];
            }
        }
        together;
        add_up(square);
        add_up(product);
        each_lane
        {
            float length = (float)sqrt(own(square));
            // A vector that is only divided grows as it likes.
            float along = length > SHORT ? (float)own(product) : 0.0f;
            each_of_row(row, at) of_x[at] = (gradient[at] - y[at] * along) / (length > SHORT ? length : SHORT);
        }
        together;
    }
}

// The sum over a row of (a - b)², times `scale`; without `b`, of a².
kernel squares(const float *a, const float *b, float *y, int width, int rows, float scale)
{
    shared float sum[LANES];
    each_rows(first)
    {
        each_lane
        {
            sum[lane] = 0.0f;
            each_of_row(row, at)
            {
                float apart = b ? a[at] - b[at] : a[at];
                sum[lane] += apart * apart;
            }
        }
        together;
        add_up(sum);
        each_lane
        {
            int row = first + lane / WARP;
            if (lane % WARP == 0 && row < rows) y[row] = sum[lane] * scale;
        }
        together;
    }
}

kernel squares_back(const float *a, const float *b, const float *gradient, float *of_a, int count, int width, float slope)
{
    each(at, count) of_a[at] = slope * gradient[at / width] * (b ? a[at] - b[at] : a[at]);
}

// `most`, the largest of each row, and `sum`, Σ exp((x - most) / over), all of it in double precision.
#define exact_powers_of(x, over, most, sum)                                        \
    largest_of(x, most);                                                           \
    each_lane                                                                      \
    {                                                                              \
        sum[lane] = 0.0;                                                           \
        each_of_row(row, at) sum[lane] += exp(((double)x[at] - own(most)) / over); \
    }                                                                              \
    together;                                                                      \
    add_up(sum);

// What the label's class is short of certainty, of which it shares `smoothing` evenly among all. A label that is none is no number.
kernel cross_entropy(const float *scores, const unsigned *labels, float *y, int width, int rows, float smoothing)
{
    shared float most[LANES];
    shared double sum[LANES], all[LANES];
    each_rows(first)
    {
        exact_powers_of(scores, 1.0, most, sum);
        each_lane
        {
            all[lane] = 0.0;
            each_of_row(row, at) all[lane] += (double)scores[at] - own(most);
        }
        together;
        add_up(all);
        each_lane
        {
            int row = first + lane / WARP;
            if (lane % WARP == 0 && row < rows) {
                int known = labels[row] < (unsigned)width;
                double label = known ? (double)scores[row * width + (int)labels[row]] - most[lane] : NOTHING_YET - NOTHING_YET;
                y[row] = (float)(log(sum[lane]) - (1.0 - smoothing) * label - smoothing * all[lane] / width);
            }
        }
        together;
    }
}

kernel cross_entropy_back(const float *scores, const unsigned *labels, const float *gradient, float *of_scores, int width, int rows,
                          float smoothing)
{
    shared float most[LANES];
    shared double sum[LANES];
    each_rows(first)
    {
        exact_powers_of(scores, 1.0, most, sum);
        each_lane each_of_row(row, at)
        {
            double due = smoothing / width + (at - row * width == (int)labels[row] ? 1.0 - smoothing : 0.0);
            of_scores[at] = (float)(gradient[row] * (exp((double)scores[at] - own(most)) / own(sum) - due));
        }
        together;
    }
}

// KL between a teacher's and a student's scores, both over a temperature, times its square.
kernel softened_divergence(const float *student, const float *teacher, float *y, int width, int rows, float temperature)
{
    shared float most[LANES], students_most[LANES];
    shared double sum[LANES], students_sum[LANES], apart[LANES];
    each_rows(first)
    {
        exact_powers_of(teacher, (double)temperature, most, sum);
        exact_powers_of(student, (double)temperature, students_most, students_sum);
        each_lane
        {
            double more = log(own(students_sum)) - log(own(sum));
            apart[lane] = 0.0;
            each_of_row(row, at)
            {
                double of_teacher = ((double)teacher[at] - own(most)) / temperature;
                double of_student = ((double)student[at] - own(students_most)) / temperature;
                apart[lane] += exp(of_teacher) / own(sum) * (of_teacher - of_student + more);
            }
        }
        together;
        add_up(apart);
        each_lane
        {
            int row = first + lane / WARP;
            if (lane % WARP == 0 && row < rows) y[row] = (float)(apart[lane] * temperature * temperature);
        }
        together;
    }
}

kernel softened_divergence_back(const float *student, const float *teacher, const float *gradient, float *of_student, int width, int rows,
                                float temperature)
{
    shared float most[LANES], students_most[LANES];
    shared double sum[LANES], students_sum[LANES];
    each_rows(first)
    {
        exact_powers_of(teacher, (double)temperature, most, sum);
        exact_powers_of(student, (double)temperature, students_most, students_sum);
        each_lane each_of_row(row, at)
        {
            double p = exp(((double)teacher[at] - own(most)) / temperature) / own(sum);
            double q = exp(((double)student[at] - own(students_most)) / temperature) / own(students_sum);
            of_student[at] = (float)(gradient[row] * temperature * (q - p));
        }
        together;
    }
}
