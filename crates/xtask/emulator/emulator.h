// What the parts of the emulator know of each other.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))
#define complain(...) (fprintf(stderr, "emulator: " __VA_ARGS__), fputc('\n', stderr))

// A kernel: how long its parameters are, and what runs it for all lanes of all blocks, one after another.
struct Kernel {
    std::vector<size_t> sizes;
    std::function<void(void **, const unsigned *, const unsigned *)> run;
};

inline std::map<std::string, Kernel> &kernels()
{
    static std::map<std::string, Kernel> all;
    return all;
}

// A kernel once it has its parameters.
template <class... A> std::function<void()> with(void (*kernel)(A...), void **args)
{
    return [=] { [&]<size_t... I>(std::index_sequence<I...>) { kernel(*(std::remove_const_t<A> *)args[I]...); }(std::index_sequence_for<A...>()); };
}

// Enters a kernel by its name; `lanes` has what it is given run as often as there are blocks and lanes.
template <class Lanes, class... A> bool enter(const char *name, void (*kernel)(A...), Lanes lanes)
{
    auto run = [=](void **args, const unsigned *grid, const unsigned *block) { lanes(with(kernel, args), grid, block); };
    kernels()[name] = {{sizeof(A)...}, run};
    return true;
}

// A stream, and what it does next: at once, or when the graph is launched that is captured.
struct Stream;
Stream *stream(void *handle);
int submit(Stream *, std::function<void()> work);
// Work that waits for another process: it says whether it is done, and what is behind it on the stream waits too.
int submit_waiting(Stream *, std::function<bool()> work);
// Ends the program where memory is not there that work is about to touch.
void must_be_there(const void *address, size_t bytes, const char *who);
