// Contrast with a memory of all training images (`contrast.rs`): who an example is, whom it is told from, and how surprising that is.

#define STRANGER 1
#define ALL_ALIKE 2

// Which image each example is, if it is of the class that is remembered of it; a fault and 0, if not. Classes below 0 are of images
// that nobody has seen: from now on they are known, if this teaches.
kernel recognise(float *classes, const unsigned *rows, const unsigned *labels, unsigned *seen, unsigned *fault, int count, int all,
                 int teaches)
{
    each(at, count)
    {
        unsigned row = rows[at];
        float label = (float)labels[at];
        int known = row < (unsigned)all && (classes[row] < 0.0f || classes[row] == label);
        seen[at] = known ? row : 0;
        if (!known)
            *fault = STRANGER;
        else if (teaches)
            classes[row] = label;
    }
}

// What the lanes of a block have becomes what all up to each have, and it.
#define add_on_block(part, room)                                                                \
    for (int far = 1; far < LANES; far *= 2) {                                                  \
        each_lane room[lane] = part[lane] + (lane < far ? 0 : part[lane - far]);                \
        together;                                                                               \
        each_lane part[lane] = room[lane];                                                      \
        together;                                                                               \
    }
#define akin(other) ((other) == (int)row || classes[other] == label)
// The rows of other classes that a lane draws in a round, `run` words of the key's stream, a multiple of four: `other` by word `at`. Those
// that would make some rows more probable than others are passed over (`Stream::below`), and so are those before `from`.
#define each_other(body)                                                                                       \
    for (unsigned four = (round + lane * run) / 4; four < (round + (lane + 1) * run) / 4; four++) {            \
        Words words = words_of(own.of[0], own.of[1], four);                                                    \
        unrolled for (int k = 0; k < 4; k++)                                                                   \
        {                                                                                                      \
            unsigned at = 4 * four + k;                                                                        \
            unsigned long long wide = (unsigned long long)words.of[k] * (unsigned)all;                         \
            int other = (int)(wide >> 32);                                                                     \
            if (at >= from && (unsigned)wide >= biased && !akin(other)) { body; }                             \
        }                                                                                                      \
    }

// For each example a row that counts as its own, and rows of other classes, each but once where there are as many. A block takes an
// example, and notes for each row by which word it was drawn first, as that word's complement: `earliest` is 0 before and after.
kernel others(const float *classes, const unsigned *rows, const unsigned *labels, const unsigned *key, unsigned *picks,
              unsigned *earliest, unsigned *fault, int examples, int all, int negatives, int relaxed, int run)
{
    shared unsigned count[LANES], room[LANES];
    unsigned *first = earliest + (unsigned long long)block * all;
    unsigned biased = (0u - (unsigned)all) % (unsigned)all;
    int apiece = (all + LANES - 1) / LANES;
    for (int one = block; one < examples; one += blocks) {
        unsigned row = rows[one], *mine = picks + one * (1 + negatives);
        float label = (float)labels[one];
        // The key of a row (`Key::fold_in`).
        Words own = philox(key[0], key[1], row, 0, 0, 0xffffffffu);
        each_lane
        {
            count[lane] = 0;
            for (int other = lane * apiece; other < all && other < (lane + 1) * apiece; other++) count[lane] += akin(other);
        }
        together;
        add_on_block(count, room);
        unsigned kin = count[LANES - 1], from = 0;
        if (kin == (unsigned)all) {
            each_lane
            {
                if (lane == 0) *fault = ALL_ALIKE;
                for (int at = lane; at <= negatives; at += LANES) mine[at] = row;
            }
            together;
            continue;
        }
        if (relaxed) {
            unsigned few = (0u - kin) % kin;
            unsigned long long wide;
            do wide = (unsigned long long)word_of(own.of[0], own.of[1], from++) * kin;
            while ((unsigned)wide < few);
            unsigned place = (unsigned)(wide >> 32);
            each_lane
            {
                unsigned before = lane > 0 ? count[lane - 1] : 0;
                if (place < before || place >= count[lane]) continue;
                for (int other = lane * apiece; before <= place; other++)
                    if (akin(other) && before++ == place) mine[0] = other;
            }
        } else {
            each_lane if (lane == 0) mine[0] = row;
        }
        together;
        int once_each = negatives <= all - (int)kin, drawn = 0;
        unsigned round = 0;
        for (; drawn < negatives; round += LANES * run) {
            if (once_each) {
                each_lane each_other(raise(first + other, ~at));
                together;
            }
            each_lane
            {
                count[lane] = 0;
                each_other(count[lane] += !once_each || fresh(first + other) == ~at);
            }
            together;
            add_on_block(count, room);
            each_lane
            {
                int place = drawn + (int)(lane > 0 ? count[lane - 1] : 0);
                each_other(if (!once_each || fresh(first + other) == ~at) {
                    if (place < negatives) mine[1 + place] = other;
                    place++;
                });
            }
            drawn += (int)count[LANES - 1];
            together;
        }
        unsigned end = round;
        if (once_each)
            for (round = 0; round < end; round += LANES * run) { each_lane each_other(first[other] = 0); }
        together;
    }
}

device_function float dot(int apiece, const float *a, const float *b, int width)
{
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int at = 0; at < width; at += apiece) {
        four_float one = some_float(a, at, apiece), other = some_float(b, at, apiece);
        unrolled for (int k = 0; k < 4; k++) sum[k] += one.of[k] * other.of[k];
    }
    return sum[0] + sum[1] + (sum[2] + sum[3]);
}

// The product of an anchor and a row of the bank over the temperature, which is given in two parts.
#define in_fours(width) ((width) % 4 == 0 && in_fours_float(anchors) && in_fours_float(bank))
#define affinity(one, row)                                                                                             \
    ((in_fours(width) ? dot(4, anchors + (one) * width, bank + (row) * width, width)                               \
                      : dot(1, anchors + (one) * width, bank + (row) * width, width)) / ((double)temperature + rest))

// What chances are divided by: the mean over all picks of e to the affinity, times all rows; or what is known of it already, if that is
// above 0.
kernel normaliser_of(const float *anchors, const float *bank, const unsigned *picks, const float *known, double *sums, unsigned *done,
                     double *normaliser, float temperature, float rest, int count, int picked, int width, int rows)
{
    shared double sum[LANES];
    if (*known > 0.0f) {
        each_lane if (block == 0 && lane == 0) *normaliser = *known;
        return;
    }
    each_lane sum[lane] = 0.0;
    each(at, count) sum[lane] += exp(affinity(at / picked, (int)picks[at]));
    together;
    add_up_block(sum);
    each_lane if (lane == 0) sums[block] = sum[0];
    if (!comes_last(done, blocks)) return;
    each_lane
    {
        sum[lane] = 0.0;
        for (int at = lane; at < blocks; at += LANES) sum[lane] += fresh(sums + at);
    }
    together;
    add_up_block(sum);
    each_lane if (lane == 0) *normaliser = sum[0] / count * rows;
}

// How surprising it is that the first pick of an anchor is its own and the others are not, and the slope of that in the anchor. `parts` blocks
// share an anchor, rounds of LANES picks in turns: a lane has a pick of a round, then a number of the slope, or of one of `groups` that it is
// the sum of.
kernel contrast(const float *anchors, const float *bank, const unsigned *picks, double *normaliser, double *surprises,
                double *slopes, float temperature, float rest, int picked, int width, int rows, int parts, int groups)
{
    shared double sum[LANES];
    shared float slope[LANES];
    shared int row[LANES];
    // Chances are taken over that of noise, so that those far below it keep their digits.
    double noise = (picked - 1) / (double)rows, shift = log(*normaliser) + log(noise);
    int one = block / parts, numbers = groups * width;
    each_lane sum[lane] = 0.0;
    for (int from = block % parts * LANES; from < picked; from += parts * LANES) {
        int here = picked - from < LANES ? picked - from : LANES;
        each_lane
        {
            if (lane >= here) continue;
            row[lane] = (int)picks[one * picked + from + lane];
            int own = from + lane == 0;
            double over = affinity(one, row[lane]) - shift, odds = exp(over), both = odds + (1.0 + 1e-7 / noise);
            sum[lane] += log(both) - (own ? over : 0.0);
            slope[lane] = (float)(odds / both - own);
        }
        together;
        each_lane for (int at = lane; at < numbers; at += LANES)
        {
            float more = 0.0f;
            for (int pick = at / width; pick < here; pick += groups) more += slope[pick] * bank[row[pick] * width + at % width];
            slopes[block * numbers + at] += more;
        }
        together;
    }
    add_up_block(sum);
    each_lane if (lane == 0) surprises[block] = sum[0];
}

// What the blocks and groups of each anchor have, added up.
kernel contrast_ends(double *surprises, double *slopes, float *values, float *gradient, float temperature, float rest, int count, int width,
                     int parts, int groups)
{
    each(at, count)
    {
        int one = at / width, first = at % width == 0;
        double slope = 0.0, value = 0.0;
        for (int part = one * parts * groups; part < (one + 1) * parts * groups; part++) slope += slopes[part * width + at % width];
        gradient[at] = (float)(slope / ((double)temperature + rest));
        for (int part = one * parts; first && part < (one + 1) * parts; part++) value += surprises[part];
        if (first) values[one] = (float)value;
    }
}

