// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace wherry::vmm::mshv {

/// The system calls through which MSHV is reached: the kernel's, or a simulator's. Results are the
/// kernel's: not negative, or minus errno. Thread-safe as the kernel's are; ioctl() returns -EINTR
/// when a signal handler ran on the calling thread.
class Syscalls {
public:
    Syscalls() = default;
    Syscalls(const Syscalls&) = delete;
    Syscalls& operator=(const Syscalls&) = delete;
    virtual ~Syscalls() = default;

    /// Opens the device. The descriptor, and each that an ioctl returns, is one of this process,
    /// closed by close() of this interface.
    virtual int open_device() = 0;
    virtual int ioctl(int descriptor, std::uint64_t request, void* argument) = 0;
    /// Maps `length` bytes, readable, writable and shared, from `offset`, a multiple of the page
    /// size. nullptr where the kernel would fail; `error` then is errno.
    virtual void*
    map(int descriptor, std::size_t length, std::uint64_t offset, int& error) noexcept = 0;
    virtual void unmap(void* at, std::size_t length) noexcept = 0;
    virtual void close(int descriptor) noexcept = 0;
};

} // namespace wherry::vmm::mshv
