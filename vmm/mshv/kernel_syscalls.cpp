// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/kernel_syscalls.hpp"

#include <cerrno>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace wherry::vmm::mshv {
namespace {

class KernelSyscalls final : public Syscalls {
public:
    int open_device() override {
        const int descriptor = ::open("/dev/mshv", O_RDWR | O_CLOEXEC);
        return descriptor < 0 ? -errno : descriptor;
    }

    int ioctl(int descriptor, std::uint64_t request, void* argument) override {
        const int result = ::ioctl(descriptor, request, argument);
        return result < 0 ? -errno : result;
    }

    void*
    map(int descriptor, std::size_t length, std::uint64_t offset, int& error) noexcept override {
        void* const at = ::mmap(
            nullptr,
            length,
            PROT_READ | PROT_WRITE,
            MAP_SHARED,
            descriptor,
            static_cast<off_t>(offset));
        if (at == MAP_FAILED) {
            error = errno;
            return nullptr;
        }
        return at;
    }

    void unmap(void* at, std::size_t length) noexcept override { ::munmap(at, length); }
    void close(int descriptor) noexcept override { ::close(descriptor); }
};

} // namespace

std::unique_ptr<Syscalls> kernel_syscalls() {
    return std::make_unique<KernelSyscalls>();
}

} // namespace wherry::vmm::mshv
