// SPDX-License-Identifier: Apache-2.0
// Stands between a program and its libc: what concerns /dev/mshv goes to the simulator.
#include "tools/mshvsim/real_calls.hpp"
#include "tools/mshvsim/settings.hpp"
#include "vmm/mshvsim/device.hpp"

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace {

using namespace wherry::mshvsim_preload;
using wherry::vmm::mshvsim::Device;

/// The device of one process.
struct Opened {
    Device* device;
    pid_t process;
};

/// Once the device was opened. Never destroyed: threads may be in it when the process ends.
std::atomic<const Opened*> opened = nullptr;

namespace mshvsim = wherry::vmm::mshvsim;

mshvsim::SimulatorOptions options_of_environment() {
    mshvsim::SimulatorOptions options;
    const auto value = [](const char* name) {
        const char* const text = std::getenv(name);
        return std::string{text != nullptr ? text : ""};
    };
    options.personality =
        mshvsim::personality_from(value(personality_variable)).value_or(options.personality);
    options.engine = mshvsim::engine_from(value(engine_variable)).value_or(options.engine);
    options.trace_file = value(trace_variable);
    return options;
}

/// nullptr without one, and in a child of the process that opened it. Its engine is tied to that
/// process's memory, and a child of vfork, which shares that memory, may close what it likes.
Device* own_device() {
    const Opened* const current = opened;
    return current != nullptr && current->process == ::getpid() ? current->device : nullptr;
}

/// Opens it where needed. nullptr, after saying why, where there can be none.
Device* device() {
    if (Device* const own = own_device(); own != nullptr) {
        return own;
    }
    auto made = wherry::vmm::mshvsim::make_device(options_of_environment());
    if (!made) {
        std::fprintf(stderr, "mshvsim: %s\n", made.error().text().c_str());
        return nullptr;
    }
    // No lock: a child of fork would find it held for good.
    auto mine = std::make_unique<const Opened>(made->get(), ::getpid());
    const Opened* before = opened;
    while (before == nullptr || before->process != mine->process) {
        if (opened.compare_exchange_weak(before, mine.get())) {
            made->release();
            return mine.release()->device;
        }
    }
    return before->device; // another thread was first
}

/// The device if this descriptor belongs to it.
Device* owner_of(int descriptor) {
    Device* const device = own_device();
    return device != nullptr && device->has(descriptor) ? device : nullptr;
}

int returned(int result) {
    if (result < 0) {
        errno = -result;
        return -1;
    }
    return result;
}

bool is_device(const char* path) {
    return path != nullptr && path == device_path;
}

int open_simulated(int flags) {
    Device* const simulated = device();
    return simulated != nullptr ? returned(simulated->open_device((flags & O_CLOEXEC) != 0))
                                : returned(-ENODEV);
}

int noted(int original, int copy) {
    Device* const device = own_device();
    if (copy >= 0 && device != nullptr) {
        if (copy != original) {
            device->forget(copy); // dup2 and dup3 close what had the number
        }
        device->duplicated(original, copy);
    }
    return copy;
}

using Open = int(const char*, int, ...);
using OpenAt = int(int, const char*, int, ...);
using OpenChecked = int(const char*, int);
using OpenAtChecked = int(int, const char*, int);

bool takes_mode(int flags) {
    return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
}

} // namespace

extern "C" {

int open(const char* path, int flags, ...) {
    static auto* const next = real<Open>("open");
    va_list rest;
    va_start(rest, flags);
    const mode_t mode = takes_mode(flags) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return is_device(path) ? open_simulated(flags) : next(path, flags, mode);
}

int open64(const char* path, int flags, ...) {
    static auto* const next = real<Open>("open64");
    va_list rest;
    va_start(rest, flags);
    const mode_t mode = takes_mode(flags) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return is_device(path) ? open_simulated(flags) : next(path, flags, mode);
}

int openat(int folder, const char* path, int flags, ...) {
    static auto* const next = real<OpenAt>("openat");
    va_list rest;
    va_start(rest, flags);
    const mode_t mode = takes_mode(flags) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return is_device(path) ? open_simulated(flags) : next(folder, path, flags, mode);
}

int openat64(int folder, const char* path, int flags, ...) {
    static auto* const next = real<OpenAt>("openat64");
    va_list rest;
    va_start(rest, flags);
    const mode_t mode = takes_mode(flags) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return is_device(path) ? open_simulated(flags) : next(folder, path, flags, mode);
}

// What calls of programs built with _FORTIFY_SOURCE become.
int __open_2(const char* path, int flags) {
    static auto* const next = real<OpenChecked>("__open_2");
    return is_device(path) ? open_simulated(flags) : next(path, flags);
}

int __open64_2(const char* path, int flags) {
    static auto* const next = real<OpenChecked>("__open64_2");
    return is_device(path) ? open_simulated(flags) : next(path, flags);
}

int __openat_2(int folder, const char* path, int flags) {
    static auto* const next = real<OpenAtChecked>("__openat_2");
    return is_device(path) ? open_simulated(flags) : next(folder, path, flags);
}

int __openat64_2(int folder, const char* path, int flags) {
    static auto* const next = real<OpenAtChecked>("__openat64_2");
    return is_device(path) ? open_simulated(flags) : next(folder, path, flags);
}

int ioctl(int descriptor, unsigned long request, ...) noexcept {
    static auto* const next = real<int(int, unsigned long, ...)>("ioctl");
    va_list rest;
    va_start(rest, request);
    void* const argument = va_arg(rest, void*);
    va_end(rest);
    Device* const owner = owner_of(descriptor);
    return owner != nullptr ? returned(owner->ioctl(descriptor, request, argument))
                            : next(descriptor, request, argument);
}

void* mmap(
    void* at, size_t length, int protection, int flags, int descriptor, off_t offset) noexcept {
    using Map = void*(void*, size_t, int, int, int, off_t);
    static auto* const next = real<Map>("mmap");
    Device* const owner =
        (flags & (MAP_ANONYMOUS | MAP_FIXED)) == 0 ? owner_of(descriptor) : nullptr;
    if (owner == nullptr) {
        return next(at, length, protection, flags, descriptor, offset);
    }
    int error = 0;
    void* const mapped = owner->map(descriptor, length, static_cast<std::uint64_t>(offset), error);
    if (mapped == nullptr) {
        errno = error;
        return MAP_FAILED;
    }
    return mapped;
}

void* mmap64(
    void* at, size_t length, int protection, int flags, int descriptor, off64_t offset) noexcept {
    return mmap(at, length, protection, flags, descriptor, offset);
}

int close(int descriptor) {
    static auto* const next = real<int(int)>("close");
    if (Device* const owner = owner_of(descriptor); owner != nullptr) {
        owner->forget(descriptor);
    }
    return next(descriptor);
}

int close_range(unsigned first, unsigned last, int flags) noexcept {
    static auto* const next = real<int(unsigned, unsigned, int)>("close_range");
    const int result = next(first, last, flags);
    Device* const device = own_device();
    if (result == 0 && device != nullptr &&
        (static_cast<unsigned>(flags) & CLOSE_RANGE_CLOEXEC) == 0) {
        device->forget_range(first, last);
    }
    return result;
}

int dup(int descriptor) noexcept {
    static auto* const next = real<int(int)>("dup");
    return noted(descriptor, next(descriptor));
}

int dup2(int descriptor, int copy) noexcept {
    static auto* const next = real<int(int, int)>("dup2");
    return noted(descriptor, next(descriptor, copy));
}

int dup3(int descriptor, int copy, int flags) noexcept {
    static auto* const next = real<int(int, int, int)>("dup3");
    return noted(descriptor, next(descriptor, copy, flags));
}

int fcntl(int descriptor, int command, ...) {
    static auto* const next = real<int(int, int, ...)>("fcntl");
    va_list rest;
    va_start(rest, command);
    void* const argument = va_arg(rest, void*);
    va_end(rest);
    const int result = next(descriptor, command, argument);
    const bool is_copy = command == F_DUPFD || command == F_DUPFD_CLOEXEC;
    return is_copy ? noted(descriptor, result) : result;
}

int fcntl64(int descriptor, int command, ...) {
    va_list rest;
    va_start(rest, command);
    void* const argument = va_arg(rest, void*);
    va_end(rest);
    return fcntl(descriptor, command, argument);
}

} // extern "C"
