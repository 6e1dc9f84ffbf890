// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/descriptor.hpp"

#include "vmm/mshv/abi/hypercalls.hpp"
#include "vmm/mshv/abi/ioctls.hpp"
#include "vmm/mshv/abi/status.hpp"

#include <cerrno>

#include <fmt/format.h>

namespace wherry::vmm::mshv {

using formats::Error;
using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

MappedPage& MappedPage::operator=(MappedPage&& other) noexcept {
    std::swap(syscalls_, other.syscalls_);
    std::swap(at_, other.at_);
    return *this;
}

MappedPage::~MappedPage() {
    if (at_ != nullptr) {
        syscalls_->unmap(at_, abi::page_size);
    }
}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
    std::swap(syscalls_, other.syscalls_);
    std::swap(number_, other.number_);
    return *this;
}

Descriptor::~Descriptor() {
    if (number_ >= 0) {
        syscalls_->close(number_);
    }
}

Result<Descriptor> Descriptor::open_device(Syscalls& syscalls) {
    const int number = syscalls.open_device();
    if (number >= 0) {
        return Descriptor{syscalls, number};
    }
    switch (-number) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
        return fail(
            ErrorCode::unsupported,
            "there is no /dev/mshv: it exists in the root partition of the Microsoft hypervisor, "
            "with the kernel module mshv_root");
    case EACCES:
    case EPERM:
        return fail(
            ErrorCode::permission,
            "no permission for /dev/mshv: run as root, or give your user access to the device");
    default:
        return fail(formats::system_error(-number, "/dev/mshv"));
    }
}

int Descriptor::raw(std::uint64_t request, void* argument) const {
    return syscalls_->ioctl(number_, request, argument);
}

Result<int> Descriptor::call(std::uint64_t request, void* argument, std::string_view name) const {
    int result = 0;
    do {
        result = raw(request, argument);
    } while (result == -EINTR);
    if (result < 0) {
        return fail(formats::system_error(-result, name));
    }
    return result;
}

Result<Descriptor>
Descriptor::derive(std::uint64_t request, void* argument, std::string_view name) const {
    const auto made = call(request, argument, name);
    if (!made) {
        return fail(made.error());
    }
    return Descriptor{*syscalls_, *made};
}

Result<MappedPage> Descriptor::map(std::uint64_t offset, std::string_view name) const {
    int error = 0;
    void* const at = syscalls_->map(number_, abi::page_size, offset, error);
    if (at == nullptr && error != ENODEV) {
        return fail(formats::system_error(error, name));
    }
    return MappedPage{*syscalls_, at};
}

HypercallOutcome Descriptor::try_hypercall(const Hypercall& call) const {
    abi::ioctls::RootHvcall argument;
    int result = 0;
    do {
        argument = {
            .code = call.code,
            .reps = call.reps,
            .input_size = static_cast<std::uint16_t>(call.input_size),
            .output_size = static_cast<std::uint16_t>(call.output_size),
            .input = reinterpret_cast<std::uintptr_t>(call.input),
            .output = reinterpret_cast<std::uintptr_t>(call.output)};
        result = raw(abi::ioctls::root_hvcall, &argument);
        // Interrupted before the hypercall. One that did repetitions has an outcome of its own.
    } while (result == -EINTR && argument.reps == call.reps);
    return {.status = argument.status, .reps = argument.reps, .error = result < 0 ? -result : 0};
}

Status Descriptor::hypercall(const Hypercall& call) const {
    const auto outcome = try_hypercall(call);
    if (outcome.error != 0) {
        return fail(hypercall_error(call.name, outcome));
    }
    if (outcome.reps != call.reps) {
        return fail(
            ErrorCode::io, fmt::format("{}: {} of {} done", call.name, outcome.reps, call.reps));
    }
    return {};
}

Result<std::uint64_t> Descriptor::property(std::uint32_t code, std::string_view name) const {
    const abi::hypercalls::GetProperty input{.code = code};
    std::uint64_t value = 0;
    const auto got = hypercall(
        {.name = name,
         .code = abi::hypercalls::get_partition_property,
         .input = &input,
         .input_size = sizeof(input),
         .output = &value,
         .output_size = sizeof(value)});
    if (!got) {
        return fail(got.error());
    }
    return value;
}

Status
Descriptor::set_property(std::uint32_t code, std::uint64_t value, std::string_view name) const {
    const abi::hypercalls::SetProperty input{.code = code, .value = value};
    return hypercall(
        {.name = name,
         .code = abi::hypercalls::set_partition_property,
         .input = &input,
         .input_size = sizeof(input)});
}

Error hypercall_error(std::string_view name, const HypercallOutcome& outcome) {
    if (outcome.status == abi::status::success) {
        return formats::system_error(outcome.error, name);
    }
    const auto code = outcome.error == ENOMEM ? ErrorCode::out_of_resources : ErrorCode::io;
    return {
        code,
        fmt::format(
            "{}: the hypervisor answers {:#x} ({})",
            name,
            outcome.status,
            abi::status::text(outcome.status))};
}

} // namespace wherry::vmm::mshv
