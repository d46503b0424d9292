// Those of candle's kernels whose lanes wait for each other, by what they come to: reductions of the last axes, and orders of rows.

#include "emulator.h"
#include <algorithm>
#include <cstring>
#include <numeric>

static size_t strided(size_t at, size_t axes, const size_t *dims, const size_t *strides)
{
    size_t place = 0;
    for (size_t axis = axes; axis-- > 0; at /= dims[axis]) place += at % dims[axis] * strides[axis];
    return place;
}

// Of each piece of `apiece` numbers what `take` makes of them.
template <class T, class To, class Take> static void pieces(size_t apiece, size_t axes, const size_t *info, const T *x, To *y, size_t count, Take take)
{
    std::vector<T> all(apiece);
    for (size_t piece = 0; piece < count; piece++) {
        for (size_t at = 0; at < apiece; at++) all[at] = x[strided(piece * apiece + at, axes, info, info + axes)];
        y[piece] = take(all);
    }
}

template <class T> struct Reduce {
    static T sum(const std::vector<T> &all) { return (T)std::accumulate(all.begin(), all.end(), 0.0); }
    static T most(const std::vector<T> &all) { return *std::max_element(all.begin(), all.end()); }
    static T least(const std::vector<T> &all) { return *std::min_element(all.begin(), all.end()); }
    static uint32_t which_most(const std::vector<T> &all) { return std::max_element(all.begin(), all.end()) - all.begin(); }
    static uint32_t which_least(const std::vector<T> &all) { return std::min_element(all.begin(), all.end()) - all.begin(); }
    static void sums(size_t count, size_t apiece, size_t axes, const size_t *info, const T *x, T *y) { pieces(apiece, axes, info, x, y, count, sum); }
    template <class To, To take(const std::vector<T> &)> static void each(size_t all, size_t apiece, size_t axes, const size_t *info, const T *x, To *y)
    {
        pieces(apiece, axes, info, x, y, all / apiece, take);
    }
    template <bool down> static void order(const T *x, uint32_t *y, int width, int, unsigned rows)
    {
        for (; rows-- > 0; x += width, y += width) {
            std::iota(y, y + width, 0);
            std::stable_sort(y, y + width, [=](uint32_t a, uint32_t b) { return down ? x[a] > x[b] : x[a] < x[b]; });
        }
    }
};

static void once(std::function<void()> run, const unsigned *, const unsigned *) { run(); }

template <class T> static bool enter_all(const std::string &type)
{
    typedef Reduce<T> R;
    auto name = [&](const char *of) { return strdup((of + type).c_str()); };
    enter(name("fast_sum_small_"), R::sums, once);
    enter(name("fast_sum_"), R::template each<T, R::sum>, once);
    enter(name("fast_max_"), R::template each<T, R::most>, once);
    enter(name("fast_min_"), R::template each<T, R::least>, once);
    enter(name("fast_argmax_"), R::template each<uint32_t, R::which_most>, once);
    enter(name("fast_argmin_"), R::template each<uint32_t, R::which_least>, once);
    for (bool down : {false, true}) {
        auto run = [=](void **args, const unsigned *grid, const unsigned *) {
            (down ? R::template order<true> : R::template order<false>)(*(const T **)args[0], *(uint32_t **)args[1], *(int *)args[2], 0, grid[0]);
        };
        kernels()[(down ? "asort_desc_" : "asort_asc_") + type] = {{8, 8, 4, 4}, run};
    }
    return true;
}
static bool entered = enter_all<float>("f32") && enter_all<double>("f64") && enter_all<uint32_t>("u32") && enter_all<int64_t>("i64") && enter_all<uint8_t>("u8");
