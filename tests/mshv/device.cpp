// SPDX-License-Identifier: Apache-2.0
#include "tests/mshv/device.hpp"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <fmt/format.h>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace wherry::conformance {

namespace {

std::string name_of_errno(int number) {
    const char* const name = ::strerrorname_np(number);
    return name == nullptr ? fmt::format("errno {}", number) : name;
}

} // namespace

std::string device_path() {
    const char* const path = std::getenv("MSHV_DEVICE");
    return path == nullptr ? "/dev/mshv" : path;
}

void Descriptor::close() noexcept {
    if (number_ >= 0) {
        ::close(std::exchange(number_, -1));
    }
}

std::string control(const Descriptor& on, std::uint32_t request, void* argument) {
    return ::ioctl(on.get(), request, argument) < 0 ? name_of_errno(errno) : "ok";
}

Opened control_open(const Descriptor& on, std::uint32_t request, void* argument) {
    const int result = ::ioctl(on.get(), request, argument);
    if (result < 0) {
        return {.descriptor = Descriptor{}, .outcome = name_of_errno(errno)};
    }
    return {.descriptor = Descriptor{result}, .outcome = "ok"};
}

Opened open_device() {
    const int result = ::open(device_path().c_str(), O_RDWR | O_CLOEXEC);
    if (result < 0) {
        return {.descriptor = Descriptor{}, .outcome = name_of_errno(errno)};
    }
    return {.descriptor = Descriptor{result}, .outcome = "ok"};
}

bool closes_on_exec(const Descriptor& descriptor) {
    return (::fcntl(descriptor.get(), F_GETFD) & FD_CLOEXEC) != 0;
}

Mapping::Mapping(std::size_t size) : size_{size} {
    map(-1, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, 0);
}

Mapping::Mapping(const Descriptor& of, std::size_t size, std::uint64_t offset) : size_{size} {
    map(of.get(), MAP_SHARED, offset);
}

void Mapping::map(int descriptor, int flags, std::uint64_t offset) {
    void* const at = ::mmap(
        nullptr, size_, PROT_READ | PROT_WRITE, flags, descriptor, static_cast<off_t>(offset));
    if (at == MAP_FAILED) {
        outcome_ = name_of_errno(errno);
        return;
    }
    at_ = static_cast<std::byte*>(at);
}

Mapping::~Mapping() {
    if (at_ != nullptr) {
        ::munmap(at_, size_);
    }
}

std::uint64_t Mapping::address() const noexcept {
    return address_of(at_);
}

std::uint64_t address_of(const void* pointer) {
    return reinterpret_cast<std::uintptr_t>(pointer);
}

void* bad_pointer() {
    return reinterpret_cast<void*>(bad_address);
}

void skipped(std::string_view test, std::string_view reason) {
    fmt::print("SKIPPED: {}: {}\n", test, reason);
    std::fflush(stdout);
}

void saw(std::string_view topic, std::string_view what) {
    fmt::print("SAW: {}: {}\n", topic, what);
    std::fflush(stdout);
}

} // namespace wherry::conformance
