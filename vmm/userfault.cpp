// SPDX-License-Identifier: Apache-2.0
#include "vmm/userfault.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <string>
#include <tuple>
#include <utility>

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace wherry::vmm {

using formats::Bytes;
using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

namespace {

constexpr std::uint64_t wanted_features = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM;

std::uint64_t number_of(const std::byte* at) {
    return std::bit_cast<std::uintptr_t>(at);
}
uffdio_range range_of(const std::byte* at, Bytes size) {
    return {.start = number_of(at), .len = size.value()};
}

/// The device needs no privilege but that to open it; the system call needs CAP_SYS_PTRACE or the
/// sysctl, for faults in the kernel are wanted too: hypervisors take them there.
Result<UniqueFd> open_descriptor() {
    const UniqueFd device{::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC)};
    if (device.is_open()) {
        UniqueFd fd{::ioctl(device.get(), USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK)};
        if (fd.is_open()) {
            return fd;
        }
    }
    UniqueFd fd{static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK))};
    if (fd.is_open()) {
        return fd;
    }
    const int number = errno;
    if (number == ENOSYS) {
        return fail(
            ErrorCode::unsupported,
            "this kernel has no userfaultfd (it is built without CONFIG_USERFAULTFD)");
    }
    if (number == EPERM || number == EACCES) {
        return fail(
            ErrorCode::permission,
            "userfaultfd is forbidden here: let wherry open /dev/userfaultfd, or set "
            "vm.unprivileged_userfaultfd=1, or run it as root (in a container: allow the system "
            "call)");
    }
    return fail(formats::system_error(number, "userfaultfd"));
}

/// What became of a request that fills `done` with bytes or a negative error.
Userfault::Outcome outcome_of(int returned, std::int64_t done) {
    if (returned == 0) {
        return {.done = Bytes{static_cast<std::uint64_t>(std::max<std::int64_t>(done, 0))}};
    }
    const int number = errno;
    if (done > 0) {
        return {.done = Bytes{static_cast<std::uint64_t>(done)}, .error = number};
    }
    return {.done = Bytes{0}, .error = done < 0 ? static_cast<int>(-done) : number};
}

} // namespace

Result<Userfault> Userfault::open() {
    auto fd = open_descriptor();
    if (!fd) {
        return fail(std::move(fd.error()));
    }
    uffdio_api api{};
    api.api = UFFD_API;
    api.features = wanted_features;
    if (::ioctl(fd->get(), UFFDIO_API, &api) != 0) {
        const int number = errno;
        if (number == EINVAL) {
            return fail(
                ErrorCode::unsupported,
                "userfaultfd of this kernel knows no minor faults of shared memory (Linux 5.14)");
        }
        return fail(formats::system_error(number, "UFFDIO_API"));
    }
    return Userfault{*std::move(fd)};
}

Status Userfault::check() {
    const auto opened = open();
    return opened ? Status{} : fail(opened.error());
}

Status Userfault::watch(std::byte* at, Bytes size) const {
    uffdio_register argument{};
    argument.range = range_of(at, size);
    argument.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR;
    if (::ioctl(fd_.get(), UFFDIO_REGISTER, &argument) != 0) {
        return fail(formats::system_error(errno, "UFFDIO_REGISTER of guest memory"));
    }
    return {};
}

Status Userfault::unwatch(std::byte* at, Bytes size) const {
    auto range = range_of(at, size);
    if (::ioctl(fd_.get(), UFFDIO_UNREGISTER, &range) != 0) {
        return fail(formats::system_error(errno, "UFFDIO_UNREGISTER of guest memory"));
    }
    // The kernel (seen: 6.18) wakes before it ends the watching, and waits in between for faults
    // that are just beginning: those would wait for ever.
    wake(at, size);
    return {};
}

Userfault::Outcome Userfault::map(std::byte* at, Bytes size) const noexcept {
    Outcome all{};
    while (all.done < size) {
        uffdio_continue argument{};
        argument.range = range_of(at + all.done.value(), size - all.done);
        const int returned = ::ioctl(fd_.get(), UFFDIO_CONTINUE, &argument);
        const auto one = outcome_of(returned, argument.mapped);
        all.done += one.done;
        if (one.error != 0 && one.error != EAGAIN) { // EAGAIN: a part, and no reason yet
            all.error = one.error;
            break;
        }
    }
    return all;
}

Userfault::Outcome Userfault::map_zeros(std::byte* at, Bytes size) const noexcept {
    Outcome all{};
    while (all.done < size) {
        uffdio_zeropage argument{};
        argument.range = range_of(at + all.done.value(), size - all.done);
        const int returned = ::ioctl(fd_.get(), UFFDIO_ZEROPAGE, &argument);
        const auto one = outcome_of(returned, argument.zeropage);
        all.done += one.done;
        if (one.error != 0 && one.error != EAGAIN) {
            all.error = one.error;
            break;
        }
    }
    return all;
}

void Userfault::wake(std::byte* at, Bytes size) const noexcept {
    auto range = range_of(at, size);
    formats::invariant(
        ::ioctl(fd_.get(), UFFDIO_WAKE, &range) == 0, "waking who waits for pages works");
}

std::span<const Userfault::Fault> Userfault::take(std::span<Fault> room) const noexcept {
    std::array<uffd_msg, 64> messages{};
    const std::size_t most = std::min(messages.size(), room.size());
    const ssize_t got = ::read(fd_.get(), messages.data(), most * sizeof(uffd_msg));
    const std::size_t count =
        got > 0 ? static_cast<std::size_t>(got) / sizeof(uffd_msg) : std::size_t{0};
    std::size_t faults = 0;
    for (const uffd_msg& message : std::span{messages}.first(count)) {
        if (message.event != UFFD_EVENT_PAGEFAULT) {
            continue; // no other event was asked for
        }
        const std::uint64_t page = message.arg.pagefault.address & ~(formats::page_size - 1);
        room[faults++] = {
            .page = std::bit_cast<std::byte*>(page),
            .is_in_file = (message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_MINOR) != 0};
    }
    return room.first(faults);
}

} // namespace wherry::vmm
