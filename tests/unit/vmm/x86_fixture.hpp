// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tests/unit/vmm/tiny_guest.hpp"
#include "vmm/guest_memory.hpp"
#include "vmm/x86/emulator.hpp"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

/// A processor without paging unless a case makes tables, 4 MiB of RAM, and a device of which each
/// access is remembered.
namespace wherry::tests {

inline constexpr std::uint64_t device_at = 0xd000'0000;

class RecordingBus final : public vmm::ExitHandler {
public:
    void port_read(std::uint16_t port, std::span<std::byte> data) override {
        log.push_back(fmt::format("in{} {:x}", data.size(), port));
        answer_with(data);
    }
    void port_write(std::uint16_t port, std::span<const std::byte> data) override {
        log.push_back(fmt::format("out{} {:x} {:x}", data.size(), port, number(data)));
    }
    void memory_read(formats::Gpa at, std::span<std::byte> data) override {
        log.push_back(fmt::format("read{} {:x}", data.size(), at.value()));
        answer_with(data);
    }
    void memory_write(formats::Gpa at, std::span<const std::byte> data) override {
        log.push_back(fmt::format("write{} {:x} {:x}", data.size(), at.value(), number(data)));
    }
    void end_of_interrupt(std::uint8_t) override { log.emplace_back("eoi"); }

    std::uint64_t answer = 0; ///< every read gives the low bytes of this
    std::vector<std::string> log;

private:
    void answer_with(std::span<std::byte> data) const {
        const auto bytes = std::bit_cast<std::array<std::byte, 8>>(answer);
        std::copy_n(bytes.begin(), data.size(), data.begin());
    }
    static std::uint64_t number(std::span<const std::byte> data) {
        std::array<std::byte, 8> bytes{};
        std::ranges::copy(data, bytes.begin());
        return std::bit_cast<std::uint64_t>(bytes);
    }
};

using Log = std::vector<std::string>;

struct X86Bench {
    vmm::GuestMemory memory = must(vmm::GuestMemory::create(formats::Bytes{4U << 20U}));
    RecordingBus bus;
    vmm::x86::CpuState cpu = flat_32();

    static vmm::x86::CpuState flat_32() {
        vmm::x86::CpuState state;
        const vmm::Segment data{
            .base = 0, .limit = 0xffff'ffff, .selector = 8, .attributes = 0xc093};
        auto& system = state.system;
        system.ds = system.es = system.ss = system.fs = system.gs = data;
        system.cs = data;
        system.cs.attributes = 0xc09b;
        system.cr0 = vmm::x86::cr0::pe;
        state.registers.rip = 0x1000;
        return state;
    }
    void put(std::uint64_t at, std::uint64_t value, std::size_t size = 8) {
        const auto bytes = std::bit_cast<std::array<std::byte, 8>>(value);
        must(memory.write(formats::Gpa{at}, std::span{bytes}.first(size)));
    }
    std::uint64_t get(std::uint64_t at, std::size_t size = 8) {
        std::array<std::byte, 8> bytes{};
        must(memory.read(formats::Gpa{at}, std::span{bytes}.first(size)));
        return std::bit_cast<std::uint64_t>(bytes);
    }
    /// Four-level tables at 2 MiB that map the first 2 MiB to themselves; 64-bit mode with them.
    /// The tables' lowest entries are at 0x203000: one for each page.
    void enter_long_mode() {
        put(0x20'0000, 0x20'1007);
        put(0x20'1000, 0x20'2007);
        put(0x20'2000, 0x20'3007);
        for (std::uint64_t page = 0; page < 512; ++page) {
            put(0x20'3000 + page * 8, page << 12U | 7U);
        }
        cpu.system.cs.attributes = 0xa09b;
        cpu.system.cr0 |= vmm::x86::cr0::pg;
        cpu.system.cr3 = 0x20'0000;
        cpu.system.cr4 = vmm::x86::cr4::pae;
        cpu.system.efer = vmm::x86::efer::lma | vmm::x86::efer::nxe;
    }
    formats::Result<vmm::x86::Outcome> attempt(const Program& code) {
        return vmm::x86::emulate(cpu, memory, bus, std::as_bytes(std::span{code}));
    }
    /// Executes the instruction, which must not fault, and goes on from there.
    vmm::Registers& run(const Program& code) {
        const auto outcome = must(attempt(code));
        CHECK_FALSE(outcome.exception.has_value());
        CHECK(outcome.registers.rip == cpu.registers.rip + code.size());
        cpu.registers = outcome.registers;
        cpu.registers.rip = 0x1000;
        return cpu.registers;
    }
    vmm::x86::Exception fault(const Program& code) {
        const auto outcome = must(attempt(code));
        REQUIRE(outcome.exception.has_value());
        CHECK(outcome.registers.rip == cpu.registers.rip);
        return *outcome.exception;
    }
};

} // namespace wherry::tests
