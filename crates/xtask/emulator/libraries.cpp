// cuBLAS, cuDNN, NVRTC and cuRAND, as far as this project asks for them: by their definitions, in double precision.

#include "emulator.h"
#include <algorithm>
#include <bit>
#include <cstring>

enum { OK = 0, BAD_PARAMETER = 3, NOT_SUPPORTED = 9 };
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

// cuDNN: convolutions of maps and kernels that lie channels last.

enum { SINGLE = 0, BF16 = 9 };
struct Sizes {
    int channels_last, count, channels, height, width, type;
    size_t numbers() const { return (size_t)count * channels * height * width; }
    size_t at(int one, int row, int column) const { return (((size_t)one * height + row) * width + column) * channels; }
};
struct Convolution { int above, left, down, right, apart_down, apart_right, is_correlation, groups; };
enum Way { FORWARD, TO_MAP, TO_KERNEL };

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
    void set(size_t place, double value) const
    {
        uint32_t bits = std::bit_cast<uint32_t>((float)value);
        if (type == BF16 && value == value) bits += 0x7fff + (bits >> 16 & 1);
        memcpy(at + place * width(), (char *)&bits + 4 - width(), width());
    }
    void must_be(size_t count) const { must_be_there(at, width() * count, "a convolution"); }
};

static int convolve(Handle *handle, Way way, Sizes xs, void *at_x, Sizes ws, void *at_w, Convolution conv, Sizes ys, void *at_y, void *work, size_t bytes)
{
    Numbers x{(char *)at_x, xs.type}, w{(char *)at_w, ws.type}, y{(char *)at_y, ys.type};
    int height = (xs.height + 2 * conv.above - conv.apart_down * (ws.height - 1) - 1) / conv.down + 1;
    int width = (xs.width + 2 * conv.left - conv.apart_right * (ws.width - 1) - 1) / conv.right + 1;
    if (!xs.channels_last || !ws.channels_last || !ys.channels_last) return complain("a convolution that is not channels last"), NOT_SUPPORTED;
    if (height != ys.height || width != ys.width || xs.count != ys.count || ws.count != ys.channels || ws.channels * conv.groups != xs.channels || !conv.is_correlation)
        return complain("sizes of a convolution that do not fit together"), BAD_PARAMETER;
    if (xs.type != ws.type || xs.type != ys.type || (xs.type != SINGLE && xs.type != BF16)) return complain("types of a convolution that do not fit together"), BAD_PARAMETER;
    return submit(handle->on, [=] {
        x.must_be(xs.numbers()), w.must_be(ws.numbers()), y.must_be(ys.numbers());
        must_be_there(work, bytes, "a convolution's workspace");
        memset(work, 0xff, bytes);
        std::vector<double> sums(way == FORWARD ? ys.numbers() : way == TO_MAP ? xs.numbers() : ws.numbers());
        int to = ws.count / conv.groups, from = ws.channels;
        for (int image = 0; image < ys.count; image++)
            for (int row = 0; row < height; row++)
                for (int column = 0; column < width; column++)
                    for (int down = 0; down < ws.height; down++)
                        for (int right = 0; right < ws.width; right++) {
                            int line = row * conv.down - conv.above + down * conv.apart_down, place = column * conv.right - conv.left + right * conv.apart_right;
                            if (line < 0 || place < 0 || line >= xs.height || place >= xs.width) continue;
                            for (int channel = 0; channel < ws.count; channel++) {
                                size_t out = ys.at(image, row, column) + channel, in = xs.at(image, line, place) + channel / to * from, weight = ws.at(channel, down, right);
                                for (int at = 0; at < from; at++)
                                    if (way == FORWARD) sums[out] += (double)x[in + at] * w[weight + at];
                                    else if (way == TO_MAP) sums[in + at] += (double)y[out] * w[weight + at];
                                    else sums[weight + at] += (double)y[out] * x[in + at];
                            }
                        }
        Numbers to_all = way == FORWARD ? y : way == TO_MAP ? x : w;
        for (size_t place = 0; place < sums.size(); place++) to_all.set(place, sums[place]);
    });
}

struct Performance { int algorithm, status; float ms; size_t bytes; int determinism, math, reserved[3]; };
static int choose(int room, int *count, Performance *found)
{
    for (int at = 0; at < room; at++) found[at] = {1, OK, 1, 1000, 1, 0, {}};
    *count = room;
    return OK;
}

API size_t cudnnGetVersion() { return 91000; }
API int cudnnCreate(Handle **made) { return cublasCreate_v2(made); }
API int cudnnDestroy(Handle *) { return OK; }
API int cudnnSetStream(Handle *handle, void *on) { return cublasSetStream_v2(handle, on); }
API int cudnnCreateTensorDescriptor(Sizes **made) { *made = new Sizes{}; return OK; }
API int cudnnDestroyTensorDescriptor(Sizes *sizes) { delete sizes; return OK; }
API int cudnnSetTensor4dDescriptor(Sizes *of, int format, int type, int count, int channels, int height, int width) { *of = {format == 1, count, channels, height, width, type}; return OK; }
API int cudnnSetTensor4dDescriptorEx(Sizes *, int, int, int, int, int, int, int, int, int) { return NOT_SUPPORTED; }
API int cudnnCreateFilterDescriptor(Sizes **made) { *made = new Sizes{}; return OK; }
API int cudnnDestroyFilterDescriptor(Sizes *sizes) { delete sizes; return OK; }
API int cudnnSetFilter4dDescriptor(Sizes *of, int type, int format, int to, int from, int height, int width) { *of = {format == 1, to, from, height, width, type}; return OK; }
API int cudnnCreateConvolutionDescriptor(Convolution **made) { *made = new Convolution{0, 0, 1, 1, 1, 1, 1, 1}; return OK; }
API int cudnnDestroyConvolutionDescriptor(Convolution *conv) { delete conv; return OK; }
API int cudnnSetConvolution2dDescriptor(Convolution *of, int above, int left, int down, int right, int apart_down, int apart_right, int mode, int type)
{
    if (type != SINGLE) return complain("a convolution that does not add in single precision"), NOT_SUPPORTED;
    *of = {above, left, down, right, apart_down, apart_right, mode, of->groups};
    return OK;
}
API int cudnnSetConvolutionMathType(Convolution *, int) { return OK; }
API int cudnnSetConvolutionGroupCount(Convolution *of, int groups) { of->groups = groups; return OK; }
API int cudnnGetConvolutionForwardAlgorithm_v7(Handle *, Sizes *, Sizes *, Convolution *, Sizes *, int room, int *count, Performance *found) { return choose(room, count, found); }
API int cudnnGetConvolutionBackwardDataAlgorithm_v7(Handle *, Sizes *, Sizes *, Convolution *, Sizes *, int room, int *count, Performance *found) { return choose(room, count, found); }
API int cudnnGetConvolutionBackwardFilterAlgorithm_v7(Handle *, Sizes *, Sizes *, Convolution *, Sizes *, int room, int *count, Performance *found) { return choose(room, count, found); }
API int cudnnGetConvolutionForwardWorkspaceSize(Handle *, Sizes *, Sizes *w, Convolution *, Sizes *, int, size_t *bytes) { *bytes = 16 * w->count; return OK; }
API int cudnnGetConvolutionBackwardDataWorkspaceSize(Handle *, Sizes *w, Sizes *, Convolution *, Sizes *, int, size_t *bytes) { *bytes = 24 * w->count; return OK; }
API int cudnnGetConvolutionBackwardFilterWorkspaceSize(Handle *, Sizes *, Sizes *, Convolution *, Sizes *w, int, size_t *bytes) { *bytes = 8 * w->count; return OK; }
API int cudnnConvolutionForward(Handle *handle, const void *, Sizes *xs, void *x, Sizes *ws, void *w, Convolution *conv, int, void *work, size_t bytes, const void *, Sizes *ys, void *y)
{
    return convolve(handle, FORWARD, *xs, x, *ws, w, *conv, *ys, y, work, bytes);
}
API int cudnnConvolutionBackwardData(Handle *handle, const void *, Sizes *ws, void *w, Sizes *ys, void *y, Convolution *conv, int, void *work, size_t bytes, const void *, Sizes *xs, void *x)
{
    return convolve(handle, TO_MAP, *xs, x, *ws, w, *conv, *ys, y, work, bytes);
}
API int cudnnConvolutionBackwardFilter(Handle *handle, const void *, Sizes *xs, void *x, Sizes *ys, void *y, Convolution *conv, int, void *work, size_t bytes, const void *, Sizes *ws, void *w)
{
    return convolve(handle, TO_KERNEL, *xs, x, *ws, w, *conv, *ys, y, work, bytes);
}

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
