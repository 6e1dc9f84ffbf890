// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/boot/initial_state.hpp"
#include "vmm/guest_memory.hpp"
#include "vmm/partition.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

/// Guests of a few instructions, assembled by hand, for 32-bit flat protected mode.
namespace wherry::tests {

using Program = std::vector<std::uint8_t>;

inline constexpr formats::Gpa program_at{0x1000};

/// `counted: inc eax; out 0x10, eax; in eax, 0x11; jmp counted`. Needs eax = 0 at the start.
inline const Program count_through_ports{0x40, 0xe7, 0x10, 0xe5, 0x11, 0xeb, 0xf9};
/// The same through memory at 3.25 GiB: `inc eax; mov [0xd0000000], eax; mov eax, [0xd0000008]`.
inline const Program count_through_memory{
    0x40, 0xa3, 0x00, 0x00, 0x00, 0xd0, 0xa1, 0x08, 0x00, 0x00, 0xd0, 0xeb, 0xf3};
/// `counted: inc dword [0x100000]; jmp counted`
inline const Program count_in_memory{0xff, 0x05, 0x00, 0x00, 0x10, 0x00, 0xeb, 0xf8};
inline constexpr formats::Gpa memory_counter{0x100000};

/// Whether the backend exists here. Where not, says so as the test run wants it said.
inline bool has_backend(const vmm::HypervisorChoice& choice, std::string_view test) {
    const auto found = vmm::probe(choice);
    if (!found) {
        fmt::print("SKIPPED: {}: {}\n", test, found.error().text());
        std::fflush(stdout);
    }
    return found.has_value();
}

template <typename T>
T must(formats::Result<T> result) {
    if (!result) {
        FAIL(result.error().text());
    }
    return std::move(*result);
}
inline void must(const formats::Status& status) {
    if (!status) {
        FAIL(status.error().text());
    }
}
inline vmm::HypervisorChoice hypervisor(std::string_view name) {
    return must(vmm::hypervisor_from(name));
}

inline void load_program(vmm::GuestMemory& memory, const Program& program) {
    must(memory.write(program_at, std::as_bytes(std::span{program})));
}

/// Makes `state` that of a vCPU about to execute the program.
inline void aim(vmm::VcpuState& state) {
    state.system = vmm::boot::protected_mode();
    state.registers = {};
    state.registers.rip = program_at.value();
    state.registers.rsp = 0x8000;
    state.run_state = vmm::RunState::runnable;
}

/// Serves exits through functions; without them reads are all ones, writes are dropped.
class ScriptedExits final : public vmm::ExitHandler {
public:
    std::function<void(std::uint64_t at, std::uint64_t value)> on_write;
    std::function<std::uint64_t(std::uint64_t at)> on_read;

    void port_read(std::uint16_t port, std::span<std::byte> data) override { read(port, data); }
    void port_write(std::uint16_t port, std::span<const std::byte> data) override {
        write(port, data);
    }
    void memory_read(formats::Gpa at, std::span<std::byte> data) override {
        read(at.value(), data);
    }
    void memory_write(formats::Gpa at, std::span<const std::byte> data) override {
        write(at.value(), data);
    }
    void end_of_interrupt(std::uint8_t /*vector*/) override {}

private:
    void read(std::uint64_t at, std::span<std::byte> data) const {
        const std::uint64_t value = on_read ? on_read(at) : ~std::uint64_t{0};
        std::memcpy(data.data(), &value, data.size());
    }
    void write(std::uint64_t at, std::span<const std::byte> data) const {
        std::uint64_t value = 0;
        std::memcpy(&value, data.data(), data.size());
        if (on_write) {
            on_write(at, value);
        }
    }
};

/// A partition with memory and vCPUs, the first of which is about to execute `program`.
struct TinyMachine {
    TinyMachine(vmm::HypervisorChoice choice, const Program& program, std::uint32_t vcpu_count = 1)
        : memory{must(vmm::GuestMemory::create(formats::Bytes{16U << 20U}))},
          partition{must(vmm::open_partition(choice, {.vcpus = vcpu_count}))} {
        must(partition->map_memory(memory));
        for (std::uint32_t index = 0; index < vcpu_count; ++index) {
            vcpus.push_back(must(partition->create_vcpu(index)));
            must(vcpus.back()->set_cpuid(partition->capabilities().cpuid));
        }
        if (!program.empty()) {
            load_program(memory, program);
            const auto clock = must(partition->save_clock());
            auto state = must(vcpus.front()->save());
            aim(state);
            must(partition->restore_clock(clock));
            must(vcpus.front()->restore(state));
        }
    }
    vmm::Vcpu& vcpu() { return *vcpus.front(); }
    std::uint32_t word_at(formats::Gpa at) const {
        std::array<std::byte, 4> bytes{};
        must(memory.read(at, bytes));
        std::uint32_t value = 0;
        std::memcpy(&value, bytes.data(), bytes.size());
        return value;
    }

    vmm::GuestMemory memory;
    std::unique_ptr<vmm::Partition> partition;
    std::vector<std::unique_ptr<vmm::Vcpu>> vcpus;
};

/// Copies all RAM from one memory to another of the same layout.
inline void copy_memory(const vmm::GuestMemory& from, vmm::GuestMemory& to) {
    for (const auto range : must(from.populated())) {
        must(from.copy_pages(range, must(to.landing(range))));
    }
}

} // namespace wherry::tests
