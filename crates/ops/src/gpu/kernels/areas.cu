// Peaks of heatmaps, the boxes around them and what they cover: what the crate `dam` does by plain numbers, step by step. A block
// takes an image.

#define NO_PLACE (1 << 30)

#define each_image for (int image = block; image < batch; image += blocks)

// Whether one of two comes first: the higher, or of equals that in the earlier place. What is no number comes nowhere.
device_function int precedes(float value, int place, float other, int other_place)
{
    return value > other || (value == other && place < other_place);
}

// Whether nothing in the window around a number of a heatmap is higher, and all there are numbers.
device_function int tops(const float *heat, int at, int reach, int height, int width, int channels)
{
    int channel = at % channels, column = at / channels % width, row = at / channels / width;
    int top = row > reach ? row - reach : 0, left = column > reach ? column - reach : 0;
    for (int down = top; down <= row + reach && down < height; down++)
        for (int right = left; right <= column + reach && right < width; right++)
            if (!(heat[(down * width + right) * channels + channel] <= heat[at])) return 0;
    return 1;
}

// The cells of the `count` highest peaks of each image, the highest first, of equals in the order of (channel, row, column); below 0
// where there are no more. Each lane has the first of its own numbers that nobody has taken yet, and looks for another only when it
// was taken.
kernel highest_peaks(const float *heat, float *peaks, int batch, int height, int width, int channels, int count, int reach)
{
    shared float value[LANES], best[LANES];
    shared int place[LANES], best_place[LANES], taken;
    int cells = height * width, numbers = cells * channels;
    each_image
    {
        const float *map = heat + image * numbers;
        each_lane
        {
            value[lane] = -NOTHING_YET;
            place[lane] = -1;
            if (lane == 0) taken = -1;
        }
        together;
        for (int rank = 0; rank < count; rank++) {
            each_lane
            {
                if (place[lane] == taken) {
                    float next = NOTHING_YET;
                    int next_place = NO_PLACE;
                    for (int at = lane; at < numbers; at += LANES) {
                        int here = at % channels * cells + at / channels;
                        if (precedes(value[lane], place[lane], map[at], here) && precedes(map[at], here, next, next_place) &&
                            tops(map, at, reach, height, width, channels)) {
                            next = map[at];
                            next_place = here;
                        }
                    }
                    value[lane] = next;
                    place[lane] = next_place;
                }
                best[lane] = value[lane];
                best_place[lane] = place[lane];
            }
            together;
            for (int half = LANES / 2; half > 0; half /= 2) {
                each_lane if (lane < half && precedes(best[lane + half], best_place[lane + half], best[lane], best_place[lane]))
                {
                    best[lane] = best[lane + half];
                    best_place[lane] = best_place[lane + half];
                }
                together;
            }
            each_lane if (lane == 0)
            {
                taken = best_place[0];
                peaks[image * count + rank] = taken == NO_PLACE ? -1.0f : (float)(taken % cells);
            }
            together;
        }
    }
}

// The standard deviation over each image's cells, a mean over channels.
kernel heat_spread(const float *heat, float *spread, int batch, int cells, int channels)
{
    shared double sum[LANES], square[LANES], deviation[LANES];
    int wide = channels < LANES ? channels : LANES, deep = LANES / wide;
    each_image
    {
        const float *map = heat + image * cells * channels;
        each_lane deviation[lane] = 0.0;
        for (int tile = 0; tile < channels; tile += wide) {
            each_lane
            {
                int channel = tile + lane % wide;
                double all = 0.0, squares = 0.0;
                if (lane < deep * wide && channel < channels)
                    for (int cell = lane / wide; cell < cells; cell += deep) {
                        // Against the first cell's values: nearly equal numbers would cancel in the squares.
                        double above = map[cell * channels + channel] - map[channel];
                        all += above;
                        squares += above * above;
                    }
                sum[lane] = all;
                square[lane] = squares;
            }
            together;
            each_lane if (lane < wide && tile + lane < channels)
            {
                double mean = 0.0, var = 0.0;
                for (int other = lane; other < deep * wide; other += wide) {
                    mean += sum[other] / cells;
                    var += square[other] / cells;
                }
                var -= mean * mean;
                deviation[lane] += var > 0.0 ? sqrt(var) : 0.0;
            }
            together;
        }
        add_up_block(deviation);
        each_lane if (lane == 0) spread[image] = (float)(deviation[0] / channels);
        together;
    }
}

// The cell that a corner lies in, moved into the map. What is no number lies at 0.
device_function int cell_of(float at, int side)
{
    float last = (float)(side - 1);
    return at > 0.0f ? (int)(at < last ? at : last) : 0;
}

// The box around each peak, a lane for each. `weights`: what a cell counts for, the number of its boxes to the power of `power`, as
// a share of the map or of what all cells count for. `figures` of an image: boxes, cells in a box, the sum of the boxes' sides.
// `centres`: the cells of its peaks, each but once, in order; below 0 where there are no more.
kernel cells_in_boxes(const float *peaks, const float *sizes, const float *offsets, float *weights, float *figures, float *centres,
                      int batch, int height, int width, int count, int power, int by_area, float least)
{
    shared int top[LANES], left[LANES], bottom[LANES], right[LANES], peak[LANES], is_new[LANES], centre[LANES];
    shared double boxes[LANES], sides[LANES], covered[LANES], area[LANES];
    int cells = height * width;
    each_image
    {
        each_lane
        {
            int cell = lane < count ? (int)peaks[image * count + lane] : -1;
            peak[lane] = cell;
            centre[lane] = -1;
            boxes[lane] = cell >= 0;
            sides[lane] = 0.0;
            if (cell >= 0) {
                const float *size = sizes + 2 * (image * cells + cell), *offset = offsets + 2 * (image * cells + cell);
                float across = (float)(cell % width) + offset[0], down = (float)(cell / width) + offset[1];
                float half_width = fmaxf(fmaxf(size[0], least), 0.0f) / 2.0f;
                float half_height = fmaxf(fmaxf(size[1], least), 0.0f) / 2.0f;
                left[lane] = cell_of(across - half_width, width);
                right[lane] = cell_of(across + half_width, width);
                top[lane] = cell_of(down - half_height, height);
                bottom[lane] = cell_of(down + half_height, height);
                sides[lane] = (double)size[0] + (double)size[1];
            }
        }
        together;
        each_lane
        {
            is_new[lane] = peak[lane] >= 0;
            for (int other = 0; other < lane; other++)
                if (peak[other] == peak[lane]) is_new[lane] = 0;
            covered[lane] = area[lane] = 0.0;
            for (int cell = lane; cell < cells; cell += LANES) {
                int row = cell / width, column = cell % width, times = 0;
                for (int box = 0; box < count; box++)
                    times += peak[box] >= 0 && row >= top[box] && row <= bottom[box] && column >= left[box] && column <= right[box];
                float worth = times > 0 ? 1.0f : 0.0f;
                for (int factor = 0; factor < power; factor++) worth *= (float)times;
                weights[image * cells + cell] = worth;
                covered[lane] += times > 0;
                area[lane] += worth;
            }
        }
        together;
        each_lane if (is_new[lane])
        {
            int before = 0;
            for (int other = 0; other < count; other++) before += is_new[other] && peak[other] < peak[lane];
            centre[before] = peak[lane];
        }
        together;
        add_up_block(boxes);
        add_up_block(sides);
        add_up_block(covered);
        add_up_block(area);
        each_lane
        {
            // An image without a box has nothing to compare.
            float whole = by_area ? fmaxf((float)area[0], 1.0f) : (float)cells;
            for (int cell = lane; cell < cells; cell += LANES) weights[image * cells + cell] /= whole;
            if (lane < count) centres[image * count + lane] = (float)centre[lane];
            if (lane == 0) {
                figures[image * 3] = (float)boxes[0];
                figures[image * 3 + 1] = (float)covered[0];
                figures[image * 3 + 2] = (float)sides[0];
            }
        }
        together;
    }
}

device_function int alike(const float *a, const float *b, int count)
{
    for (int at = 0; at < count; at++)
        if (a[at] != b[at]) return 0;
    return 1;
}

// What tells a detector from one that has collapsed: the mean spread, different sets of centres, boxes on the cell that most are on,
// cells in a box, the mean side. One block.
kernel areas_readings(const float *spread, const float *peaks, const float *figures, const float *centres, float *readings,
                      int batch, int cells, int count)
{
    shared double spreads[LANES], sets[LANES], boxes[LANES], covered[LANES], sides[LANES];
    shared int most[LANES];
    if (block > 0) return;
    each_lane
    {
        spreads[lane] = sets[lane] = boxes[lane] = covered[lane] = sides[lane] = 0.0;
        for (int image = lane; image < batch; image += LANES) {
            spreads[lane] += spread[image];
            boxes[lane] += figures[image * 3];
            covered[lane] += figures[image * 3 + 1];
            sides[lane] += figures[image * 3 + 2];
            int earlier = 0;
            while (earlier < image && !alike(centres + earlier * count, centres + image * count, count)) earlier++;
            sets[lane] += earlier == image;
        }
        most[lane] = 0;
        for (int cell = lane; cell < cells; cell += LANES) {
            int uses = 0;
            for (int at = 0; at < batch * count; at++) uses += peaks[at] == (float)cell;
            if (uses > most[lane]) most[lane] = uses;
        }
    }
    together;
    add_up_block(spreads);
    add_up_block(sets);
    add_up_block(boxes);
    add_up_block(covered);
    add_up_block(sides);
    for (int half = LANES / 2; half > 0; half /= 2) {
        each_lane if (lane < half && most[lane + half] > most[lane]) most[lane] = most[lane + half];
        together;
    }
    each_lane if (lane == 0)
    {
        double any = boxes[0] > 1.0 ? boxes[0] : 1.0;
        readings[0] = (float)(spreads[0] / batch);
        readings[1] = (float)(sets[0] / batch);
        readings[2] = (float)(most[0] / any);
        readings[3] = (float)(covered[0] / ((double)batch * cells));
        readings[4] = (float)(sides[0] / (2.0 * any));
    }
}

