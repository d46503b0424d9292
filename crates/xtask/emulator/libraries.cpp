// cuBLAS, cuDNN, NVRTC and cuRAND, as far as this project asks for them: by their definitions, in double precision.

#include "emulator.h"
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unistd.h>

enum { OK = 0, NOT_SUPPORTED = 15 };
struct Handle { Stream *on; };
static char nothing;

// cuBLAS: matrices lie column by column.

template <class T> struct Matrix {
    T *at;
    int leading;
    long apart;
    bool turned;
    T &of(int batch, int row, int column) const { return at[batch * apart + (turned ? (long)row * leading + column : (long)column * leading + row)]; }
    void must_be(int batches, int rows, int columns, const char *who) const
    {
        if (turned) std::swap(rows, columns);
        must_be_there(at, sizeof(T) * (apart * (batches - 1) + (long)leading * (columns - 1) + rows), who);
    }
};

template <class T> static int product(Handle *handle, int m, int n, int k, T alpha, Matrix<T> a, Matrix<T> b, T beta, Matrix<T> c, int batches)
{
    return submit(handle->on, [=] {
        a.must_be(batches, m, k, "a factor"), b.must_be(batches, k, n, "a factor"), c.must_be(batches, m, n, "a product");
        for (int batch = 0; batch < batches; batch++)
            for (int column = 0; column < n; column++)
                for (int row = 0; row < m; row++) {
                    double sum = 0;
                    for (int at = 0; at < k; at++) sum += (double)a.of(batch, row, at) * b.of(batch, at, column);
                    T &to = c.of(batch, row, column);
                    to = (T)(alpha * sum + (beta == 0 ? 0 : beta * to));
                }
    });
}

API int cublasCreate_v2(Handle **made) { *made = new Handle{stream(nullptr)}; return OK; }
API int cublasDestroy_v2(Handle *) { return OK; }
API int cublasSetStream_v2(Handle *handle, void *on) { handle->on = stream(on); return OK; }
API int cublasSetWorkspace_v2(Handle *, void *, size_t) { return OK; }
API int cublasGemmStridedBatchedEx(Handle *handle, int turn_a, int turn_b, int m, int n, int k, const void *alpha, void *a, int, int lda, long apart_a,
                                   void *b, int, int ldb, long apart_b, const void *beta, void *c, int type, int ldc, long apart_c, int batches, int, int)
{
    if (type != 0) return complain("a product that is not of single precision"), NOT_SUPPORTED;
    Matrix<float> one{(float *)a, lda, apart_a, turn_a != 0}, other{(float *)b, ldb, apart_b, turn_b != 0}, to{(float *)c, ldc, apart_c, false};
    return product(handle, m, n, k, *(const float *)alpha, one, other, *(const float *)beta, to, batches);
}
#define PRODUCTS(name, T)                                                                                                                       \
    API int name(Handle *handle, int turn_a, int turn_b, int m, int n, int k, const T *alpha, T *a, int lda, long apart_a, T *b, int ldb,      \
                 long apart_b, const T *beta, T *c, int ldc, long apart_c, int batches)                                                        \
    {                                                                                                                                           \
        Matrix<T> one{a, lda, apart_a, turn_a != 0}, other{b, ldb, apart_b, turn_b != 0}, to{c, ldc, apart_c, false};                           \
        return product(handle, m, n, k, *alpha, one, other, *beta, to, batches);                                                                \
    }
PRODUCTS(cublasSgemmStridedBatched, float)
PRODUCTS(cublasDgemmStridedBatched, double)

// cuDNN: graphs of operations on maps that lie channels last, as its descriptors tell of them.

// As cuDNN 9 numbers what it says.
enum { REFUSED = 2000, CANNOT = 3000 };

enum Kind { POINTWISE = 0, CONVOLUTION = 1, ENGINE = 2, WAY = 3, ADVICE = 4, PLAN = 5, FORWARD = 10, TO_KERNEL = 11, TO_MAP = 12, STEP = 13, GRAPH = 15, PACK = 16, TENSOR = 17 };
enum Type { SINGLE = 0, BF16 = 9 };
enum { OF_DESCRIPTORS = 15 };
enum Mode { ADD = 0, MULTIPLY = 1, SUBTRACT = 9, ROOT = 17, RELU = 100 };

// Ways to do a task, best first, as a GPU offers them: one that adds in any order, one that rounds factors to ten bits, and one that does neither.
enum Engine { IN_ANY_ORDER, TENSOR_CORES, PLAIN };
static const std::vector<int> NOTES[] = {{0, 4}, {0}, {}};

struct Descriptor;
using Shared = std::shared_ptr<Descriptor>;
struct Operation { Kind kind; Shared x, y, other, how; Mode mode; };
struct Descriptor {
    Kind kind;
    bool sealed;
    std::map<int, std::vector<char>> values;
    std::map<int, std::vector<Shared>> others;
    // A plan's.
    std::vector<Operation> operations;
    Engine engine;

    bool has(int name) const { return values.count(name) || others.count(name); }
    template <class T> std::vector<T> all(int name) const
    {
        auto found = values.find(name);
        if (found == values.end()) return {};
        auto *at = (const T *)found->second.data();
        return std::vector<T>(at, at + found->second.size() / sizeof(T));
    }
    template <class T> T one(int name) const { return all<T>(name).at(0); }
    Shared other(int name) const { return others.count(name) ? others.at(name).at(0) : nullptr; }

    // A tensor's.
    long name() const { return one<long>(906); }
    long size(int axis) const { return all<long>(902).at(axis); }
    size_t numbers() const { return size(0) * size(1) * size(2) * size(3); }
    size_t at(long one, long row, long column) const { return ((one * size(2) + row) * size(3) + column) * size(1); }
    bool is(int name) const { return has(name) && one<char>(name); }
    bool between() const { return is(907); }
    bool here() const { return is(908); }
    bool channels_last() const
    {
        long channels = size(1), columns = size(3);
        return all<long>(903) == std::vector<long>{size(2) * columns * channels, 1, columns * channels, channels};
    }
};

// What descriptors of a kind must be told before they are sealed.
static const std::map<Kind, std::vector<int>> NEEDS = {
    {POINTWISE, {0, 1}}, {CONVOLUTION, {100, 101, 102, 103, 104, 105, 106}}, {ADVICE, {200, 201}}, {PLAN, {400}}, {FORWARD, {700, 701, 702, 703, 704, 705}},
    {TO_MAP, {706, 707, 708, 709, 710, 711}}, {TO_KERNEL, {712, 713, 714, 715, 716, 717}}, {STEP, {750, 751, 753}}, {GRAPH, {800, 801}}, {PACK, {1000, 1001, 1003}},
    {TENSOR, {900, 901, 902, 903, 906}}};

// Numbers of either type, which ends at those of single precision's first bits.
struct Numbers {
    char *at;
    int type;
    size_t width() const { return type == BF16 ? 2 : 4; }
    float operator[](size_t place) const
    {
        uint32_t bits = 0;
        memcpy((char *)&bits + 4 - width(), at + place * width(), width());
        return std::bit_cast<float>(bits);
    }
    void set(size_t place, float value) const
    {
        uint32_t bits = std::bit_cast<uint32_t>(value);
        if (type == BF16 && value == value) bits += 0x7fff + (bits >> 16 & 1);
        memcpy(at + place * width(), (char *)&bits + 4 - width(), width());
    }
};

using Values = std::vector<float>;
static float of_ten_bits(float value) { return std::bit_cast<float>((std::bit_cast<uint32_t>(value) + 0x1000) & ~0x1fffu); }

// The sizes of a convolution, or nothing where they do not fit together.
static bool fits(const Descriptor &x, const Descriptor &w, const Descriptor &y, const Descriptor &conv)
{
    auto stride = conv.all<long>(103), after = conv.all<long>(104), before = conv.all<long>(105), apart = conv.all<long>(102);
    bool sides = conv.one<long>(106) == 2 && conv.one<int>(101) == 1 && conv.one<int>(100) == SINGLE && before == after;
    for (int axis = 0; sides && axis < 2; axis++)
        sides = (x.size(2 + axis) + 2 * before[axis] - apart[axis] * (w.size(2 + axis) - 1) - 1) / stride[axis] + 1 == y.size(2 + axis);
    long groups = x.size(1) / w.size(1);
    return sides && x.size(0) == y.size(0) && w.size(0) == y.size(1) && w.size(1) * groups == x.size(1) && y.size(1) % groups == 0;
}

static Values convolve(Kind pass, const Descriptor &xs, const Values &x, const Descriptor &ws, const Values &w, const Descriptor &ys, const Values &y, const Descriptor &conv)
{
    auto stride = conv.all<long>(103), before = conv.all<long>(105), apart = conv.all<long>(102);
    std::vector<double> sums((pass == FORWARD ? ys : pass == TO_MAP ? xs : ws).numbers());
    long from = ws.size(1), to = ws.size(0) / (xs.size(1) / from), sides[] = {ys.size(2), ys.size(3), ws.size(2), ws.size(3), xs.size(2), xs.size(3), ws.size(0)};
    for (long image = 0; image < ys.size(0); image++)
        for (long row = 0; row < sides[0]; row++)
            for (long column = 0; column < sides[1]; column++)
                for (long down = 0; down < sides[2]; down++)
                    for (long right = 0; right < sides[3]; right++) {
                        long line = row * stride[0] - before[0] + down * apart[0], place = column * stride[1] - before[1] + right * apart[1];
                        if (line < 0 || place < 0 || line >= sides[4] || place >= sides[5]) continue;
                        size_t out = ys.at(image, row, column), in = xs.at(image, line, place), tap = ws.at(0, down, right), each = ws.at(1, 0, 0);
                        for (long channel = 0; channel < sides[6]; channel++, out++, tap += each) {
                            size_t first = in + channel / to * from;
                            for (long at = 0; at < from; at++)
                                if (pass == FORWARD) sums[out] += (double)x[first + at] * w[tap + at];
                                else if (pass == TO_MAP) sums[first + at] += (double)y[out] * w[tap + at];
                                else sums[tap + at] += (double)y[out] * x[first + at];
                        }
                    }
    return {sums.begin(), sums.end()};
}

static float step(Mode mode, float x, float other)
{
    switch (mode) {
    case ADD: return x + other;
    case MULTIPLY: return x * other;
    case SUBTRACT: return x - other;
    case ROOT: return 1 / sqrtf(x);
    default: return x < 0 ? 0 : x;
    }
}

// What a graph asks for, or an answer that cuDNN gives to what it cannot do.
static int understand(const Descriptor &graph, Descriptor &plan)
{
    for (const Shared &operation : graph.others.at(801)) {
        auto of = [&](int name) { return operation->other(name); };
        switch (Kind kind = operation->kind) {
        case FORWARD: plan.operations.push_back({kind, of(704), of(705), of(703), of(702)}); break;
        case TO_MAP: plan.operations.push_back({kind, of(710), of(711), of(709), of(708)}); break;
        case TO_KERNEL: plan.operations.push_back({kind, of(716), of(717), of(715), of(714)}); break;
        default:
            Mode mode = (Mode)of(750)->one<int>(0);
            if (mode != ADD && mode != MULTIPLY && mode != SUBTRACT && mode != ROOT && mode != RELU) return complain("an operation of another mode"), CANNOT;
            plan.operations.push_back({kind, of(751), of(753), of(752), of(750), mode});
        }
        auto &last = plan.operations.back();
        bool convolves = operation->kind != STEP;
        for (auto &tensor : {last.x, last.y, last.other}) {
            if (!tensor) continue;
            if (!tensor->channels_last()) return complain("a map that is not channels last"), CANNOT;
            if (tensor->one<int>(901) != SINGLE && tensor->one<int>(901) != BF16) return complain("a map of another type"), CANNOT;
            if (convolves && !tensor->between() && tensor->one<int>(901) != last.other->one<int>(901)) return complain("types of a convolution that do not fit together"), CANNOT;
        }
        if (convolves && !fits(*last.x, *last.other, *last.y, *last.how)) return complain("sizes of a convolution that do not fit together"), REFUSED;
    }
    return OK;
}

static std::mutex keeping;
static std::vector<Shared> kept;
static size_t working_room(const Descriptor &plan) { return 16 * plan.operations[0].other->size(0); }

API size_t cudnnGetVersion() { return 91000; }
API void cudnnGetLastErrorString(char *text, size_t room) { snprintf(text, room, "see what the emulator complains of"); }
API int cudnnCreate(Handle **made) { return cublasCreate_v2(made); }
API int cudnnDestroy(Handle *handle) { delete handle; return OK; }
API int cudnnSetStream(Handle *handle, void *on) { return cublasSetStream_v2(handle, on); }
API int cudnnBackendCreateDescriptor(Kind kind, Shared **made) { *made = new Shared(new Descriptor{kind}); return OK; }
API int cudnnBackendDestroyDescriptor(Shared *of) { delete of; return OK; }
API int cudnnBackendSetAttribute(Shared *of, int name, int type, long count, const void *from)
{
    static const size_t WIDTHS[] = {8, 4, 1, 8, 4, 8, 8, 4, 4, 4, 0, 4, 4, 4, 4};
    if ((*of)->sealed) return complain("an attribute of a descriptor that is sealed"), REFUSED;
    if (type == OF_DESCRIPTORS) {
        auto *all = (Shared *const *)from;
        for (long at = 0; at < count; at++)
            if (!(*all[at])->sealed) return complain("a descriptor that is not sealed"), REFUSED;
            else (*of)->others[name].push_back(*all[at]);
        return OK;
    }
    size_t width = type == 24 ? 1 : type < 15 ? WIDTHS[type] : 0;
    if (!width) return complain("an attribute of another type"), CANNOT;
    (*of)->values[name].assign((const char *)from, (const char *)from + width * count);
    return OK;
}
API int cudnnBackendFinalize(Shared *of)
{
    Descriptor &it = **of;
    auto needs = NEEDS.find(it.kind);
    if (needs == NEEDS.end()) return complain("a descriptor of another kind"), CANNOT;
    for (int name : needs->second)
        if (!it.has(name)) return complain("a descriptor that lacks an attribute"), REFUSED;
    if (it.kind == PLAN && it.has(405)) {
        // Only this process knows it.
        int process;
        size_t number;
        auto text = it.all<char>(405);
        std::lock_guard lock(keeping);
        if (sscanf(std::string(text.begin(), text.end()).c_str(), "plan %d %zu", &process, &number) != 2 || process != getpid() || number >= kept.size()) return CANNOT;
        it.operations = kept[number]->operations, it.engine = kept[number]->engine;
    } else if (it.kind == PLAN) {
        Shared way = it.other(401);
        it.engine = way->engine;
        if (int said = understand(*way->other(201), it)) return said;
    }
    it.sealed = true;
    return OK;
}
API int cudnnBackendGetAttribute(Shared *of, int name, int, long room, long *count, void *to)
{
    Descriptor &it = **of;
    auto fill = [&](std::vector<Shared> made) {
        *count = made.size();
        for (size_t at = 0; to && at < made.size() && (long)at < room; at++) **((Shared **)to + at) = made[at];
        return OK;
    };
    auto made = [&](Kind kind, Engine engine) {
        Shared one(new Descriptor{kind, true});
        one->engine = engine, one->others = it.others;
        return one;
    };
    auto tell = [&](auto value) { *count = 1; if (to) memcpy(to, &value, sizeof value); return OK; };
    if (it.kind == ADVICE && name == 202) return fill(it.one<int>(200) == 2 ? std::vector{made(WAY, PLAIN)} : std::vector{made(WAY, IN_ANY_ORDER), made(WAY, TENSOR_CORES), made(WAY, PLAIN)});
    if (it.kind == WAY && name == 300) return fill({made(ENGINE, it.engine)});
    if (it.kind == ENGINE && name == 1301) return tell((long)it.engine);
    if (it.kind == ENGINE && name == 1303) {
        auto &notes = NOTES[it.engine];
        *count = notes.size();
        if (to) memcpy(to, notes.data(), 4 * std::min<size_t>(room, notes.size()));
        return OK;
    }
    if (it.kind == PLAN && name == 402) return tell((long)working_room(it));
    if (it.kind == PLAN && name == 405) {
        std::lock_guard lock(keeping);
        if (to) kept.push_back(*of);
        auto text = "plan " + std::to_string(getpid()) + " " + std::to_string(kept.size() - (to ? 1 : 0));
        *count = text.size() + 1;
        if (to) memcpy(to, text.c_str(), std::min<size_t>(room, text.size() + 1));
        return OK;
    }
    return complain("an attribute that nobody knows"), CANNOT;
}
API int cudnnBackendExecute(Handle *handle, Shared *of, Shared *with)
{
    Shared plan = *of, pack = *with;
    if (plan->engine == IN_ANY_ORDER) return complain("an algorithm that adds in any order"), CANNOT;
    std::map<long, char *> places;
    std::map<long, Values> told;
    auto names = pack->all<long>(1000);
    auto addresses = pack->all<char *>(1001);
    if (names.size() != addresses.size()) return complain("a pack of more names than addresses"), REFUSED;
    for (size_t at = 0; at < names.size(); at++) places[names[at]] = addresses[at];
    for (auto &operation : plan->operations)
        for (auto &tensor : {operation.x, operation.y, operation.other})
            if (tensor && !tensor->between() && !places.count(tensor->name())) return complain("a part that is not bound"), REFUSED;
            else if (tensor && tensor->here()) told[tensor->name()] = {*(float *)places[tensor->name()]};
            else if (tensor && !tensor->between() && (size_t)places[tensor->name()] % tensor->one<long>(900)) return complain("an address that is not aligned as it was said to be"), REFUSED;
    void *work = pack->one<void *>(1003);
    return submit(handle->on, [=] {
        auto values = told;
        bool rounds = plan->engine == TENSOR_CORES;
        auto place = [&](const Descriptor &tensor) {
            Numbers numbers{places.at(tensor.name()), tensor.one<int>(901)};
            must_be_there(numbers.at, numbers.width() * tensor.numbers(), "a part of a convolution");
            return numbers;
        };
        auto of = [&](const Descriptor &tensor) -> const Values & {
            auto [found, is_new] = values.try_emplace(tensor.name());
            if (is_new) {
                Numbers numbers = place(tensor);
                for (size_t at = 0; at < tensor.numbers(); at++) found->second.push_back(numbers[at]);
            }
            return found->second;
        };
        auto factors = [&](const Descriptor &tensor) {
            Values all = of(tensor);
            if (rounds) for (float &value : all) value = of_ten_bits(value);
            return all;
        };
        must_be_there(work, working_room(*plan), "a plan's workspace");
        memset(work, 0xff, working_room(*plan));
        for (auto &[kind, x, y, other, how, mode] : plan->operations) {
            const Descriptor &to = kind == TO_MAP ? *x : kind == TO_KERNEL ? *other : *y;
            Values result;
            if (kind == STEP) {
                const Values &one = of(*x), nothing{0}, &second = other ? of(*other) : nothing;
                for (size_t at = 0; at < to.numbers(); at++) {
                    // A number for all, or for each channel, or for each place.
                    auto meets = [&](const Values &values) { return values[values.size() == 1 ? 0 : values.size() == to.numbers() ? at : at % to.size(1)]; };
                    result.push_back(step(mode, meets(one), meets(second)));
                }
            } else {
                static const Values none;
                result = convolve(kind, *x, kind == TO_MAP ? none : factors(*x), *other, kind == TO_KERNEL ? none : factors(*other), *y, kind == FORWARD ? none : factors(*y), *how);
            }
            if (!to.between()) {
                Numbers numbers = place(to);
                for (size_t at = 0; at < result.size(); at++) numbers.set(at, result[at]);
            }
            values[to.name()] = result;
        }
    });
}

// What candle's own convolutions ask for, of which nobody here has any.
#define ABSENT(name) API int name() { return complain(#name), CANNOT; }
ABSENT(cudnnConvolutionForward)
ABSENT(cudnnCreateConvolutionDescriptor)
ABSENT(cudnnCreateFilterDescriptor)
ABSENT(cudnnCreateTensorDescriptor)
ABSENT(cudnnDestroyConvolutionDescriptor)
ABSENT(cudnnDestroyFilterDescriptor)
ABSENT(cudnnDestroyTensorDescriptor)
ABSENT(cudnnGetConvolutionForwardAlgorithm_v7)
ABSENT(cudnnGetConvolutionForwardWorkspaceSize)
ABSENT(cudnnSetConvolution2dDescriptor)
ABSENT(cudnnSetFilter4dDescriptor)
ABSENT(cudnnSetTensor4dDescriptor)
ABSENT(cudnnSetTensor4dDescriptorEx)

// NVRTC: the kernels are here already. cuRAND: nobody draws.

API int nvrtcVersion(int *major, int *minor) { *major = 13, *minor = 0; return OK; }
API int nvrtcCreateProgram(void **made, const char *, const char *, int, void *, void *) { *made = &nothing; return OK; }
API int nvrtcCompileProgram(void *, int, void *) { return OK; }
API int nvrtcDestroyProgram(void *) { return OK; }
API int nvrtcGetPTXSize(void *, size_t *bytes) { *bytes = 1; return OK; }
API int nvrtcGetPTX(void *, char *text) { *text = 0; return OK; }
API int nvrtcGetProgramLogSize(void *, size_t *bytes) { *bytes = 1; return OK; }
API int nvrtcGetProgramLog(void *, char *text) { *text = 0; return OK; }
API int curandCreateGenerator(void **made, int) { *made = &nothing; return OK; }
API int curandDestroyGenerator(void *) { return OK; }
API int curandSetStream(void *, void *) { return OK; }
API int curandSetPseudoRandomGeneratorSeed(void *, unsigned long long) { return OK; }
