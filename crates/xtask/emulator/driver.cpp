// The CUDA driver, as far as this project asks for it, on a machine that has none. What it is told it does at once and on this
// machine's memory; and it holds whoever tells it to the rules: memory ends at a page that nobody may touch, is full of NaN when
// it is new and gone when it was freed; while a stream is captured, nothing is done, nobody may wait, and what was there before
// may not be freed; what a graph takes is there while it runs.
//
// EMULATOR=report says at the end what was asked for; EMULATOR=launches, each launch. EMULATOR=strict relaxes no capture.

#include "emulator.h"
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <sys/mman.h>
#include <thread>

enum { OK = 0, INVALID_VALUE = 1, NOT_FOUND = 500, NOT_READY = 600, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901 };
enum Kind { KERNEL = 0, COPY = 1, FILL = 2, TAKE = 10, GIVE_BACK = 11 };

typedef uint64_t Address;
static std::recursive_mutex one_at_a_time;
#define alone std::lock_guard<std::recursive_mutex> lock(one_at_a_time)

static bool asked(const char *what) { const char *said = getenv("EMULATOR"); return said && strstr(said, what); }

static struct Counts {
    long launches, taken, given_back, sent, fetched, captures, graphs, waits;
    ~Counts()
    {
        if (asked("report"))
            complain("%ld launches, %ld graphs launched, %ld captured; memory taken %ld times, given back %ld; %ld copies there, %ld back; %ld waits",
                     launches, graphs, captures, taken, given_back, sent, fetched, waits);
    }
} counts;

// Memory

static const Address PAGE = 4096;
struct Graph;
struct Memory { size_t bytes; Graph *graph; bool there; };
static std::map<Address, Memory> &memory() { static auto *all = new std::map<Address, Memory>; return *all; }
static Address first_page(Address at) { return at / PAGE * PAGE; }
static size_t pages(Address at) { return (at + std::max<size_t>(memory()[at].bytes, 1) + PAGE - 1) / PAGE * PAGE - first_page(at); }

static Address take(size_t bytes)
{
    size_t room = (bytes + PAGE - 1) / PAGE * PAGE;
    char *pages = (char *)mmap(nullptr, room + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) { complain("no memory"); abort(); }
    mprotect(pages + room, PAGE, PROT_NONE);
    // Its end at the page that nobody may touch, as near as the driver's alignment lets it.
    Address at = (Address)(pages + room - bytes) / 256 * 256;
    memory()[at] = {bytes, nullptr, true};
    memset((void *)at, 0xff, bytes);
    return at;
}

static void release(Address at)
{
    munmap((void *)first_page(at), pages(at) + PAGE);
    memory().erase(at);
}

void must_be_there(const void *address, size_t bytes, const char *who)
{
    Address at = (Address)address;
    auto next = memory().upper_bound(at);
    if (next != memory().begin()) {
        auto &[from, what] = *std::prev(next);
        if (what.there && at + bytes <= from + what.bytes) return;
    }
    complain("%s touches %zu bytes at %lx, which are not there", who, bytes, (long)at);
    abort();
}

// Streams and graphs

struct Node { Kind kind; bool from_host; std::function<void()> work; };
struct Graph { std::vector<std::unique_ptr<Node>> nodes; std::vector<Address> taken; bool valid = true; int holders = 1; };
struct Stream { Graph *capturing = nullptr; bool relaxed = false; std::thread::id by; std::deque<std::function<bool()>> waiting; };
static Stream legacy;

Stream *stream(void *handle) { return handle ? (Stream *)handle : &legacy; }

// Does what waits no more; whether all is done.
static bool go_on(Stream *of)
{
    while (!of->waiting.empty() && of->waiting.front()()) of->waiting.pop_front();
    return of->waiting.empty();
}

// Who waits for a stream lets other threads tell it something meanwhile.
static void drain(Stream *of)
{
    for (;;) {
        { alone; if (go_on(of)) return; }
        std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
}

// A stream whose capture is spoilt does nothing more until the capture is ended.
static bool spoilt(Stream *one) { return one->capturing && !one->capturing->valid; }

static int submit(Stream *to, Kind kind, std::function<void()> work, bool from_host = false)
{
    if (spoilt(to)) return CAPTURE_INVALIDATED;
    if (!to->capturing) {
        if (go_on(to)) work();
        else to->waiting.push_back([=] { work(); return true; });
        return OK;
    }
    if (std::this_thread::get_id() != to->by) complain("another thread's work is captured");
    to->capturing->nodes.emplace_back(new Node{kind, from_host, work});
    return OK;
}

int submit(Stream *to, std::function<void()> work) { alone; return submit(to, KERNEL, work); }

int submit_waiting(Stream *to, std::function<bool()> work)
{
    alone;
    if (to->capturing) return CAPTURE_UNSUPPORTED;
    to->waiting.push_back(work);
    go_on(to);
    return OK;
}

static int spoil(Stream *captured, const char *by, int error)
{
    complain("%s spoils a capture", by);
    captured->capturing->valid = false;
    return error;
}

API int cuStreamCreate(void **made, unsigned) { *made = new Stream; return OK; }
API int cuStreamCreateWithPriority(void **made, unsigned, int) { *made = new Stream; return OK; }
API int cuStreamDestroy_v2(void *) { return OK; }
API int cuStreamSynchronize(void *of) { drain(stream(of)); alone; counts.waits++; return stream(of)->capturing ? spoil(stream(of), "a wait", CAPTURE_UNSUPPORTED) : OK; }
API int cuStreamWaitEvent(void *, void *, unsigned) { return OK; }
// Captures of this thread that are not relaxed: it may take and give back no memory beside them.
static thread_local int strict;
static bool forbidden(Stream *one)
{
    if (one->capturing || !strict) return false;
    complain("memory beside a capture that is not relaxed");
    return true;
}

API int cuStreamBeginCapture_v2(void *of, int mode)
{
    alone;
    Stream *one = stream(of);
    if (one->capturing) return CAPTURE_UNSUPPORTED;
    one->relaxed = mode == 2 && !asked("strict");
    strict += !one->relaxed;
    counts.captures++;
    one->capturing = new Graph;
    one->by = std::this_thread::get_id();
    return OK;
}
API int cuStreamIsCapturing(void *of, int *status) { alone; Graph *graph = stream(of)->capturing; *status = graph ? graph->valid ? 1 : 2 : 0; return OK; }
API int cuStreamEndCapture(void *of, Graph **made)
{
    alone;
    *made = std::exchange(stream(of)->capturing, nullptr);
    if (!*made) return INVALID_VALUE;
    strict -= !stream(of)->relaxed;
    if (!(*made)->valid) { *made = nullptr; return CAPTURE_INVALIDATED; }
    long kinds[12] = {};
    for (auto &node : (*made)->nodes) kinds[node->kind]++;
    if (asked("report")) complain("captured %ld kernels, %ld copies, %ld fills; memory taken %ld times", kinds[KERNEL], kinds[COPY], kinds[FILL], kinds[TAKE]);
    return OK;
}
API int cuGraphInstantiateWithFlags(Graph **made, Graph *of, uint64_t) { *made = of; of->holders++; return OK; }
API int cuGraphLaunch(Graph *graph, void *on)
{
    alone;
    if (stream(on)->capturing) return CAPTURE_UNSUPPORTED;
    counts.graphs++;
    for (auto &node : graph->nodes) node->work();
    return OK;
}
API int cuGraphUpload(Graph *, void *) { return OK; }
API int cuGraphDestroy(Graph *graph)
{
    alone;
    if (--graph->holders) return OK;
    for (Address at : graph->taken) if (!memory()[at].there) release(at);
    delete graph;
    return OK;
}
API int cuGraphExecDestroy(Graph *graph) { return cuGraphDestroy(graph); }
API int cuGraphGetNodes(Graph *graph, Node **nodes, size_t *count)
{
    if (!nodes) { *count = graph->nodes.size(); return OK; }
    *count = std::min(*count, graph->nodes.size());
    for (size_t at = 0; at < *count; at++) nodes[at] = graph->nodes[at].get();
    return OK;
}
API int cuGraphNodeGetType(Node *node, int *kind) { *kind = node->kind; return OK; }
struct Side { size_t at[4]; int kind; const void *host; Address device; void *array, *reserved; size_t pitch, height; };
struct Copy { Side from, to; size_t bytes, height, depth; };
API int cuGraphMemcpyNodeGetParams(Node *node, Copy *copy)
{
    *copy = {};
    copy->from.kind = node->from_host ? 1 : 2;
    copy->to.kind = 2;
    return OK;
}

API int cuMemAllocAsync(Address *made, size_t bytes, void *on)
{
    alone;
    counts.taken++;
    // What the driver's manual says of its elder sister.
    if (bytes == 0) { complain("memory of no bytes is asked for"); return INVALID_VALUE; }
    if (spoilt(stream(on))) return CAPTURE_INVALIDATED;
    if (forbidden(stream(on))) return CAPTURE_UNSUPPORTED;
    Address at = *made = take(bytes);
    Graph *graph = stream(on)->capturing;
    if (!graph) return OK;
    memory()[at].graph = graph;
    memory()[at].there = false;
    graph->taken.push_back(at);
    mprotect((void *)first_page(at), pages(at), PROT_NONE);
    return submit(stream(on), TAKE, [=] {
        mprotect((void *)first_page(at), pages(at), PROT_READ | PROT_WRITE);
        memset((void *)at, 0xff, bytes);
        memory()[at].there = true;
    });
}
API int cuMemFreeAsync(Address at, void *on)
{
    alone;
    if (spoilt(stream(on))) return CAPTURE_INVALIDATED;
    if (forbidden(stream(on))) return CAPTURE_UNSUPPORTED;
    counts.given_back++;
    auto found = memory().find(at);
    if (found == memory().end()) { complain("memory is freed that is nobody's"); return INVALID_VALUE; }
    Memory &what = found->second;
    Graph *graph = stream(on)->capturing;
    if (graph && what.graph != graph) return spoil(stream(on), "a free of what was there before", INVALID_VALUE);
    if (!graph && !what.there) { complain("memory of a graph is freed that has not run"); return INVALID_VALUE; }
    if (!graph && !what.graph) return submit(stream(on), GIVE_BACK, [=] { release(at); });
    return submit(stream(on), GIVE_BACK, [=] {
        mprotect((void *)first_page(at), pages(at), PROT_NONE);
        memory()[at].there = false;
    });
}
API int cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes, void *on)
{
    alone;
    counts.sent++;
    if (!stream(on)->capturing && !go_on(stream(on))) {
        // From pageable memory the driver has copied when it returns.
        std::vector<char> held((const char *)from, (const char *)from + bytes);
        return submit(stream(on), COPY, [=] { must_be_there((void *)to, bytes, "a copy"); memcpy((void *)to, held.data(), bytes); });
    }
    return submit(stream(on), COPY, [=] { must_be_there((void *)to, bytes, "a copy"); memcpy((void *)to, from, bytes); }, true);
}
API int cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes, void *on)
{
    drain(stream(on));
    alone;
    counts.fetched++;
    if (stream(on)->capturing) return spoil(stream(on), "a copy back", CAPTURE_UNSUPPORTED);
    must_be_there((void *)from, bytes, "a copy back");
    memcpy(to, (void *)from, bytes);
    return OK;
}
API int cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void *on)
{
    alone;
    return submit(stream(on), COPY, [=] {
        must_be_there((void *)to, bytes, "a copy");
        must_be_there((void *)from, bytes, "a copy");
        memmove((void *)to, (void *)from, bytes);
    });
}
API int cuMemcpyPeerAsync(Address, void *, Address, void *, size_t, void *) { return INVALID_VALUE; }
API int cuMemsetD8Async(Address at, unsigned char byte, size_t bytes, void *on)
{
    alone;
    return submit(stream(on), FILL, [=] { must_be_there((void *)at, bytes, "a fill"); memset((void *)at, byte, bytes); });
}
API int cuMemAlloc_v2(Address *made, size_t bytes) { alone; *made = take(bytes); return OK; }
API int cuMemFree_v2(Address at) { alone; release(at); return OK; }
API int cuMemGetInfo_v2(size_t *free, size_t *all) { *free = *all = 1ull << 34; return OK; }

// Kernels

static char module;
API int cuModuleLoadData(void **made, const void *) { *made = &module; return OK; }
API int cuModuleLoad(void **made, const char *) { *made = &module; return OK; }
API int cuModuleUnload(void *) { return OK; }
API int cuModuleGetFunction(void **made, void *, const char *name)
{
    alone;
    auto found = kernels().find(name);
    if (found == kernels().end()) { complain("no kernel is called %s", name); return NOT_FOUND; }
    *made = &*found;
    return OK;
}
API int cuFuncGetAttribute(int *value, int, void *) { *value = 1024; return OK; }
API int cuFuncSetAttribute(void *, int, int) { return OK; }
API int cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z, unsigned lanes_x, unsigned lanes_y, unsigned lanes_z, unsigned, void *on, void **params, void **)
{
    alone;
    counts.launches++;
    auto &[name, kernel] = *(std::pair<const std::string, Kernel> *)function;
    if (asked("launches")) complain("%s on %u blocks%s", name.c_str(), x, stream(on)->capturing ? ", captured" : "");
    if (!x || !y || !z || !lanes_x || lanes_x * lanes_y * lanes_z > 1024) { complain("%s on no blocks, or on more lanes than a block has", name.c_str()); return INVALID_VALUE; }
    std::vector<std::vector<char>> held;
    for (size_t at = 0; at < kernel.sizes.size(); at++) held.emplace_back((char *)params[at], (char *)params[at] + kernel.sizes[at]);
    return submit(stream(on), KERNEL, [=, &kernel = kernel]() mutable {
        std::vector<void *> args;
        for (auto &one : held) args.push_back(one.data());
        unsigned grid[] = {x, y, z}, block[] = {lanes_x, lanes_y, lanes_z};
        kernel.run(args.data(), grid, block);
    });
}

// The device, of which there is one

static char device_context, pool, event;
static thread_local void *current;
API int cuInit(unsigned) { return OK; }
API int cuDriverGetVersion(int *version) { *version = 13000; return OK; }
API int cuDeviceGet(int *device, int index) { *device = index; return index ? 101 : OK; }
API int cuDeviceGetCount(int *count) { *count = 1; return OK; }
API int cuDeviceGetName(char *name, int len, int) { snprintf(name, len, "emulator"); return OK; }
API int cuDeviceGetAttribute(int *value, int which, int)
{
    // Compute capability 9.0, with pools of memory.
    *value = which == 75 ? 9 : which == 76 ? 0 : which == 115 ? 1 : 1024;
    return OK;
}
API int cuDeviceTotalMem_v2(size_t *bytes, int) { *bytes = 1ull << 34; return OK; }
API int cuDevicePrimaryCtxRetain(void **made, int) { *made = &device_context; return OK; }
API int cuDevicePrimaryCtxRelease_v2(int) { return OK; }
API int cuCtxDestroy_v2(void *) { return OK; }
API int cuCtxSetCurrent(void *of) { current = of; return OK; }
API int cuCtxGetCurrent(void **of) { *of = current; return OK; }
API int cuCtxSynchronize() { alone; counts.waits++; return OK; }
API int cuDeviceGetMemPool(void **of, int) { *of = &pool; return OK; }
API int cuDeviceGetDefaultMemPool(void **of, int) { *of = &pool; return OK; }
API int cuMemPoolSetAttribute(void *, int, void *) { return OK; }
API int cuEventCreate(void **made, unsigned) { *made = &event; return OK; }
static Stream *recorded = &legacy;
API int cuEventRecord(void *, void *on) { alone; recorded = stream(on); return OK; }
API int cuEventDestroy_v2(void *) { return OK; }
API int cuEventSynchronize(void *) { return OK; }
API int cuEventQuery(void *) { alone; return go_on(recorded) ? OK : NOT_READY; }
API int cuEventElapsedTime_v2(float *ms, void *, void *) { *ms = 1; return OK; }
API int cuGetErrorString(int error, const char **text)
{
    static thread_local char said[32];
    snprintf(said, sizeof said, "error %d", error);
    *text = said;
    return OK;
}
API int cuGetErrorName(int error, const char **text) { return cuGetErrorString(error, text); }
