// Runs a grid on the CPU: blocks one after another, every thread of a block a fiber.
#include "host.h"

#include <sys/mman.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace arras_host {

__thread Context context;

namespace {

constexpr unsigned char POISON = 0xCD;
constexpr size_t STACK = 256 << 10, PAGE = 4096, RED_ZONE = 1024;
constexpr unsigned MAX_THREADS = 1024, WARP = 32, MAX_WARPS = MAX_THREADS / WARP;

// --- switching between stacks ---------------------------------------------------------------------------------------

#if defined(__x86_64__)
// A suspended stack is its stack pointer: callee-saved registers and the address to go on at lie on top of it.
using Stack = void*;
extern "C" void arras_host_switch(Stack* from, Stack to);
__asm__(".text\n.type arras_host_switch,@function\narras_host_switch:\n"
        "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
        "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
        "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\n"
        // A jump rather than a return: no call of this thread of the processor matches it.
        "popq %rcx\njmp *%rcx\n");
void switch_stacks(Stack& from, Stack& to) { arras_host_switch(&from, to); }
void prepare(Stack& stack, char* memory, size_t bytes, void (*entry)()) {
    void** top = reinterpret_cast<void**>(memory + bytes);
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(entry);
    for (int saved = 0; saved < 6; saved++) *--top = nullptr;
    stack = top;
}
#else
using Stack = ucontext_t;
void switch_stacks(Stack& from, Stack& to) { swapcontext(&from, &to); }
void prepare(Stack& stack, char* memory, size_t bytes, void (*entry)()) {
    getcontext(&stack);
    stack.uc_stack.ss_sp = memory;
    stack.uc_stack.ss_size = bytes;
    stack.uc_link = nullptr;
    makecontext(&stack, entry, 0);
}
#endif

// --- threads, warps, blocks -----------------------------------------------------------------------------------------

struct Fiber {
    Stack stack;
    char* memory;
    size_t offset;
};

enum class State : unsigned char { Ready, AtWarp, AtBlock, Done };

struct Thread {
    Fiber* fiber;
    unsigned mask;    // of the warp barrier it waits at
    unsigned turn;    // parity of exchanges
    State state;
};

struct Warp {
    uint64_t slot[2][WARP];
    unsigned ready, at_warp, at_block, live;
};

struct Static {
    void* memory;
    size_t bytes;
};

// Everything of a launch that is under way, one per thread of the host.
struct Machine {
    Thread threads[MAX_THREADS];
    Warp warps[MAX_WARPS];
    Thread* current = nullptr;
    Stack scheduler;
    const Kernel* kernel = nullptr;
    const void* arguments = nullptr;
    std::vector<Fiber*> idle;
    std::vector<Static> statics;
    std::string error;
    unsigned order = 0;
    uint64_t random = 0;

    ~Machine() {
        for (Fiber* fiber : idle) {
            munmap(fiber->memory, STACK);
            delete fiber;
        }
    }
};

Machine& machine() {
    static thread_local Machine machine;
    return machine;
}

void leave() {
    Machine& m = machine();
    switch_stacks(m.current->fiber->stack, m.scheduler);
}

void fiber_entry() {
    for (;;) {
        Machine& m = machine();
        m.kernel->run(m.arguments);
        m.current->state = State::Done;
        leave();
    }
}

void restart(Fiber& fiber) {
    // Frames that were left behind by an error are still marked.
    ASAN_UNPOISON_MEMORY_REGION(fiber.memory + PAGE, STACK - PAGE);
    prepare(fiber.stack, fiber.memory, STACK - fiber.offset, fiber_entry);
}

Fiber* take_fiber(Machine& m) {
    if (!m.idle.empty()) {
        Fiber* fiber = m.idle.back();
        m.idle.pop_back();
        return fiber;
    }
    void* memory = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    mprotect(memory, PAGE, PROT_NONE);
    static thread_local unsigned colour = 0;
    // Staggered tops: otherwise the hot frames of all fibers compete for the same cache sets.
    auto* fiber = new Fiber{{}, static_cast<char*>(memory), 64 * 5 * (colour++ % 51)};
    restart(*fiber);
    return fiber;
}

uint64_t next_random(Machine& m) {
    m.random ^= m.random << 13;
    m.random ^= m.random >> 7;
    m.random ^= m.random << 17;
    return m.random >> 20;
}

// The next of the set bits: the lowest, the highest, or any.
unsigned choose(Machine& m, unsigned set) {
    if (m.order == 0) return __builtin_ctz(set);
    if (m.order == 1) return 31 - __builtin_clz(set);
    unsigned from = next_random(m) & 31, above = set >> from;
    return above ? from + __builtin_ctz(above) : __builtin_ctz(set);
}

// The i-th of n things, in the order asked for.
unsigned position(const Machine& m, unsigned i, unsigned n, unsigned start) {
    return m.order == 0 ? i : m.order == 1 ? n - 1 - i : (i + start) % n;
}

bool resume(Machine& m, unsigned index) {
    Thread& thread = m.threads[index];
    if (!thread.fiber && !(thread.fiber = take_fiber(m))) {
        m.error = "no memory for another stack";
        return false;
    }
    m.current = &thread;
    context.thread = {index, 0, 0};
    switch_stacks(m.scheduler, thread.fiber->stack);
    if (thread.state == State::Done) {
        m.idle.push_back(thread.fiber);
        thread.fiber = nullptr;
    }
    return m.error.empty();
}

void begin_block(Machine& m, unsigned threads) {
    if (context.shared_bytes) std::memset(context.shared, POISON, context.shared_bytes);
    for (const Static& shared : m.statics) std::memset(shared.memory, POISON, shared.bytes);
    for (unsigned i = 0; i < threads; i++) m.threads[i] = {nullptr, 0, 0, State::Ready};
    for (unsigned w = 0; w * WARP < threads; w++) {
        unsigned count = threads - w * WARP, all = count >= WARP ? ~0u : (1u << count) - 1;
        m.warps[w].ready = m.warps[w].live = all;
        m.warps[w].at_warp = m.warps[w].at_block = 0;
    }
}

// Lets go on whoever waits at a warp barrier that all living lanes of its mask have reached.
void release_warp(Machine& m, unsigned w) {
    Warp& warp = m.warps[w];
    for (unsigned rest = warp.at_warp; rest;) {
        unsigned mask = m.threads[w * WARP + __builtin_ctz(rest)].mask & warp.live;
        rest &= ~(mask | (rest & -rest));
        if ((warp.at_warp & mask) != mask) continue;
        for (unsigned lanes = mask; lanes; lanes &= lanes - 1) {
            if ((m.threads[w * WARP + __builtin_ctz(lanes)].mask & warp.live) != mask) {
                m.error = "lanes of a warp wait with different masks";
                return;
            }
        }
        warp.at_warp &= ~mask;
        warp.ready |= mask;
    }
}

// Runs the lanes of a warp until all wait for the block or are done. Returns how many ended.
unsigned run_warp(Machine& m, unsigned w) {
    Warp& warp = m.warps[w];
    unsigned ended = 0;
    while (warp.ready) {
        while (warp.ready) {
            unsigned lane = choose(m, warp.ready), bit = 1u << lane;
            if (!resume(m, w * WARP + lane)) return ended;
            warp.ready &= ~bit;
            switch (m.threads[w * WARP + lane].state) {
                case State::AtWarp: warp.at_warp |= bit; break;
                case State::AtBlock: warp.at_block |= bit; break;
                default: warp.live &= ~bit, ended++;
            }
        }
        release_warp(m, w);
        if (!m.error.empty()) return ended;
    }
    return ended;
}

void run_block(Machine& m, unsigned threads) {
    begin_block(m, threads);
    unsigned warps = (threads + WARP - 1) / WARP, live = threads;
    while (live && m.error.empty()) {
        unsigned waiting = 0, start = m.order > 1 ? next_random(m) % warps : 0;
        for (unsigned i = 0; i < warps && m.error.empty(); i++) live -= run_warp(m, position(m, i, warps, start));
        for (unsigned w = 0; w < warps; w++) waiting += __builtin_popcount(m.warps[w].at_block);
        if (m.error.empty() && waiting != live) m.error = "deadlock: a barrier that not all threads reach";
        for (unsigned w = 0; w < warps; w++) {
            m.warps[w].ready = m.warps[w].at_block;
            m.warps[w].at_block = 0;
        }
    }
    for (unsigned i = 0; i < threads; i++) {
        if (Fiber* fiber = m.threads[i].fiber) {
            restart(*fiber);
            m.idle.push_back(fiber);
        }
    }
}

// Dynamic shared memory between two red zones.
class SharedMemory {
    std::unique_ptr<unsigned char[]> memory;
    size_t bytes;

    unsigned char* start() const {
        auto address = reinterpret_cast<uintptr_t>(memory.get()) + RED_ZONE;
        return reinterpret_cast<unsigned char*>((address + 127) & ~uintptr_t(127));
    }

public:
    explicit SharedMemory(size_t bytes) : memory(new unsigned char[bytes + 2 * RED_ZONE + 128]), bytes(bytes) {
        std::memset(memory.get(), POISON, bytes + 2 * RED_ZONE + 128);
        ASAN_POISON_MEMORY_REGION(start() - RED_ZONE, RED_ZONE);
        ASAN_POISON_MEMORY_REGION(start() + bytes, RED_ZONE);
        context.shared = start();
        context.shared_bytes = bytes;
    }
    ~SharedMemory() { ASAN_UNPOISON_MEMORY_REGION(start() - RED_ZONE, bytes + 2 * RED_ZONE); }
    SharedMemory(const SharedMemory&) = delete;

    bool intact() const {
#if !defined(__SANITIZE_ADDRESS__)
        for (size_t i = 0; i < RED_ZONE; i++)
            if (start()[-1 - ptrdiff_t(i)] != POISON || start()[bytes + i] != POISON) return false;
#endif
        return true;
    }
};

std::vector<Kernel>& registry() {
    static std::vector<Kernel> registry;
    return registry;
}

void run_grid(Machine& m, const unsigned grid[3], unsigned threads, const SharedMemory& shared) {
    unsigned total = grid[0] * grid[1] * grid[2], start = m.order > 1 ? next_random(m) % total : 0;
    for (unsigned i = 0; i < total && m.error.empty(); i++) {
        unsigned block = position(m, i, total, start);
        context.block = {block % grid[0], block / grid[0] % grid[1], block / grid[0] / grid[1]};
        run_block(m, threads);
        if (m.error.empty() && !shared.intact()) m.error = "shared memory was written beyond its end";
    }
}

}  // namespace

Registration::Registration(const Kernel& kernel) { registry().push_back(kernel); }

void fail(const char* format, ...) {
    char message[256];
    va_list values;
    va_start(values, format);
    std::vsnprintf(message, sizeof message, format, values);
    va_end(values);
    Machine& m = machine();
    m.error = message;
    // The fiber is not resumed: it is started afresh for another block.
    leave();
    std::abort();
}

void wait_block() {
    machine().current->state = State::AtBlock;
    leave();
    machine().current->state = State::Ready;
}

void wait_warp(unsigned mask) {
    if (!(mask >> lane() & 1)) fail("lane %u waits with mask %#x, which does not name it", lane(), mask);
    machine().current->state = State::AtWarp;
    machine().current->mask = mask;
    leave();
    machine().current->state = State::Ready;
}

uint64_t exchange(unsigned mask, uint64_t value, unsigned source) {
    Machine& m = machine();
    if (!(mask >> (source & 31) & 1)) fail("a shuffle reads lane %u, which is not in mask %#x", source & 31, mask);
    Warp& warp = m.warps[context.thread.x / WARP];
    // Two sets of slots in turn: a lane may reach the next exchange before the others have read this one.
    uint64_t* slots = warp.slot[m.current->turn++ & 1];
    slots[lane()] = value;
    unsigned turn = m.current->turn;
    wait_warp(mask);
    // The other lane is at this exchange, or waits at the next one, or has ended after this one; the slots of lanes out of step would not
    // match.
    unsigned other = m.threads[context.thread.x / WARP * WARP + (source & 31)].turn;
    if (!(warp.live >> (source & 31) & 1) && other < turn) fail("a shuffle reads lane %u, which has ended", source & 31);
    unsigned ahead = other - turn;
    if (ahead > 1) fail("lanes that took part in different numbers of shuffles: more than the host can follow");
    return slots[source & 31];
}

unsigned vote(unsigned mask, bool yes) {
    Machine& m = machine();
    uint64_t* slots = m.warps[context.thread.x / WARP].slot[m.current->turn & 1];
    exchange(mask, yes, lane());
    unsigned all = 0;
    for (unsigned i = 0; i < WARP; i++) all |= (mask >> i & 1) && slots[i] ? 1u << i : 0;
    return all;
}

void know_shared(void* memory, size_t bytes) {
    Machine& m = machine();
    for (const Static& shared : m.statics)
        if (shared.memory == memory) return;
    m.statics.push_back({memory, bytes});
    std::memset(memory, POISON, bytes);
}

}  // namespace arras_host

using namespace arras_host;

extern "C" {

// The i-th kernel, null behind the last.
const Kernel* arras_host_kernel(size_t i) { return i < registry().size() ? &registry()[i] : nullptr; }

// Runs a grid; order 0 forward, 1 reverse, else random by `seed`. Nonzero and a message if that went wrong.
int arras_host_launch(const Kernel* kernel, const unsigned grid[3], unsigned threads, size_t shared_bytes,
    const void* arguments, unsigned order, uint64_t seed, char* message, size_t message_bytes) {
    Machine& m = machine();
    m.kernel = kernel;
    m.arguments = arguments;
    m.order = order;
    m.random = seed | 1;
    m.error.clear();
    m.statics.clear();
    context.blocks = {grid[0], grid[1], grid[2]};
    context.threads = {threads, 1, 1};
    SharedMemory shared(shared_bytes);
    run_grid(m, grid, threads, shared);
    if (m.error.empty()) return 0;
    std::snprintf(message, message_bytes, "%s, block (%u, %u, %u), thread %u: %s", kernel->name, context.block.x,
        context.block.y, context.block.z, context.thread.x, m.error.c_str());
    return 1;
}

// Whether a stretch of memory may be touched by kernels; tells the sanitizer if there is one.
void arras_host_guard(void* memory, size_t bytes, int forbidden) {
    if (forbidden) {
        ASAN_POISON_MEMORY_REGION(memory, bytes);
    } else {
        ASAN_UNPOISON_MEMORY_REGION(memory, bytes);
    }
}

int arras_host_sanitized() {
#if defined(__SANITIZE_ADDRESS__)
    return 1;
#else
    return 0;
#endif
}
}
