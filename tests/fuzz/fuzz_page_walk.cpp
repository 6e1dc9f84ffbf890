// SPDX-License-Identifier: Apache-2.0
// Input: paging mode and control bits (2 bytes), access (1 byte), linear address (4 bytes: which of
// four entries at each level, and the offset), then records of 4 bytes: an entry of one of the
// tables, the page that it points to, its flags. Two walks that share no code must agree: that of
// the emulator (vmm/x86), and that of the simulator, which knows no reserved bits, SMEP and SMAP.
// The emulator's walk changes nothing but accessed and dirty flags.
#include "formats/error.hpp"
#include "fuzz_target.hpp"
#include "vmm/mshvsim/page_walk.hpp"
#include "vmm/x86/page_walk.hpp"

#include <array>
#include <bit>
#include <cstring>
#include <span>
#include <vector>

namespace {

using namespace wherry;
using formats::Gpa;
using formats::invariant;
namespace x86 = vmm::x86;
namespace mshvsim = vmm::mshvsim;
using SimulatorWalk = mshvsim::Translation::Outcome;

constexpr std::uint64_t table_pages = 32; ///< more can be named by an entry: no RAM there
constexpr std::uint64_t memory_bytes = std::uint64_t{2} << 20U;
constexpr std::size_t header_size = 7;
constexpr std::size_t record_size = 4;
constexpr std::uint64_t accessed_and_dirty = 0x60;

/// The tables, as the simulator's walk reads them.
class Tables final : public mshvsim::MemoryFaults {
public:
    explicit Tables(vmm::GuestMemory& memory) : memory_{memory} {}
    Answer touch(std::uint64_t, mshvsim::Access) override { return Answer::unmapped; }
    bool read(std::uint64_t gpa, std::span<std::byte> to) override {
        return memory_.read(Gpa{gpa}, to).has_value();
    }
    bool write(std::uint64_t, std::span<const std::byte>) override {
        invariant(false, "a walk of the simulator has no side effects");
        return false;
    }
    bool ring(std::uint64_t, std::span<const std::byte>) override { return false; }

private:
    vmm::GuestMemory& memory_;
};

struct Case {
    x86::CpuState cpu;
    x86::Access access;
    std::uint64_t linear;
};

/// Mode 0: none, 1: two levels, 2: PAE, 3: four levels, 4: five.
Case case_of(std::span<const std::uint8_t, header_size> header) {
    Case made{};
    auto& system = made.cpu.system;
    const unsigned mode = header[0] % 5U;
    const auto flag = [&header](unsigned bit, std::uint64_t value) {
        return ((header[1] >> bit) & 1U) != 0 ? value : 0;
    };
    system.cr0 = x86::cr0::pe | (mode == 0 ? 0 : x86::cr0::pg) | flag(0, x86::cr0::wp);
    system.cr4 = flag(1, x86::cr4::smep) | flag(2, x86::cr4::smap) | flag(3, x86::cr4::pse);
    system.cr4 |= mode >= 2 ? x86::cr4::pae : 0;
    system.cr4 |= mode == 4 ? x86::cr4::la57 : 0;
    system.efer = (mode >= 3 ? x86::efer::lma : 0) | flag(4, x86::efer::nxe);
    system.ss.attributes = static_cast<std::uint32_t>(flag(5, 3U << 5U));
    made.cpu.registers.rflags = 2 | flag(6, x86::rflags::ac);
    made.access = static_cast<x86::Access>(header[2] % 3U);
    const unsigned index_bits = mode == 1 ? 10 : 9;
    for (unsigned level = 0; level < (mode == 1 ? 2U : mode); ++level) {
        const unsigned shift = 12 + level * index_bits;
        made.linear |= std::uint64_t{(header[3] >> (level % 4U * 2U)) & 3U} << shift;
    }
    made.linear |= std::uint64_t{header[4]} << 4U;
    if (mode < 3) { // any address: with few levels chance finds the entries
        made.linear |= std::uint64_t{header[5]} << 24U & 0xffffffff;
    }
    system.cr3 = std::uint64_t{header[6] % 4U} << 12U;
    return made;
}

/// Slots are the first four entries of each table.
void fill_tables(
    vmm::GuestMemory& memory, unsigned entry_bytes, std::span<const std::uint8_t> records) {
    for (; records.size() >= record_size; records = records.subspan(record_size)) {
        const std::uint64_t page = records[0] / 4U % table_pages;
        const std::uint64_t slot = records[0] % 4U;
        const std::uint64_t flags = records[2] | std::uint64_t{records[3] & 0xfU} << 8U;
        std::uint64_t entry = std::uint64_t{records[1]} << 12U | flags;
        entry |= (records[3] & 0x80U) != 0 ? std::uint64_t{1} << 63U : 0;
        entry |= (records[3] & 0x40U) != 0 ? std::uint64_t{1} << 40U : 0;
        entry |= (records[3] & 0x20U) != 0 ? std::uint64_t{1} << 50U : 0;
        const auto bytes = std::bit_cast<std::array<std::byte, 8>>(entry);
        const auto written = memory.write(
            Gpa{page * 4096 + slot * entry_bytes}, std::span{bytes}.first(entry_bytes));
        invariant(written.has_value(), "tables lie in RAM");
    }
}

std::vector<std::uint64_t> entries_of(const vmm::GuestMemory& memory) {
    std::vector<std::uint64_t> entries(table_pages * 512);
    const auto read = memory.read(Gpa{0}, std::as_writable_bytes(std::span{entries}));
    invariant(read.has_value(), "tables lie in RAM");
    return entries;
}

void judge(
    const Case& one,
    const formats::Result<x86::Translation>& ours,
    const mshvsim::Translation& theirs) {
    constexpr std::uint32_t reserved_bit = 1U << 3U;
    constexpr std::uint32_t present_bit = 1U << 0U;
    if (!ours) {
        invariant(theirs.outcome == SimulatorWalk::table_unreadable, "both walks leave RAM");
        return;
    }
    if (ours->has_value()) {
        invariant(theirs.outcome == SimulatorWalk::success, "both walks find a page");
        invariant(theirs.gpa == (*ours)->value(), "both walks find the same page");
        return;
    }
    const x86::Exception& fault = ours->error();
    invariant(fault.vector == x86::vector::page_fault, "a walk ends in page faults only");
    invariant(fault.parameter == one.linear, "a page fault tells the address");
    const std::uint32_t code = fault.error_code.value_or(~0U);
    const bool is_beyond_simulator =
        (code & reserved_bit) != 0 || (one.cpu.system.cr4 & (x86::cr4::smep | x86::cr4::smap)) != 0;
    if ((code & present_bit) == 0) {
        invariant(theirs.outcome == SimulatorWalk::not_present, "both walks end at an empty entry");
    } else if (!is_beyond_simulator) {
        invariant(theirs.outcome == SimulatorWalk::privilege, "both walks refuse the access");
    }
}

/// 32-bit entries have their flags in both halves of a word.
void judge_tables(
    const std::vector<std::uint64_t>& before,
    const std::vector<std::uint64_t>& after,
    bool is_short) {
    const std::uint64_t may_change =
        accessed_and_dirty | (is_short ? accessed_and_dirty << 32U : 0);
    for (std::size_t i = 0; i < before.size(); ++i) {
        const std::uint64_t changed = before[i] ^ after[i];
        invariant((changed & ~may_change) == 0, "a walk sets accessed and dirty and nothing else");
        invariant((changed & before[i]) == 0, "a walk clears nothing");
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < header_size) {
        return 0;
    }
    static auto memory = vmm::GuestMemory::create(formats::Bytes{memory_bytes});
    invariant(memory.has_value(), "2 MiB of memory can be had");
    const std::vector<std::uint64_t> empty(table_pages * 512);
    const auto cleared = memory->write(Gpa{0}, std::as_bytes(std::span{empty}));
    invariant(cleared.has_value(), "tables lie in RAM");

    const std::span<const std::uint8_t> input{data, size};
    const Case one = case_of(input.first<header_size>());
    const bool is_short = (one.cpu.system.cr4 & x86::cr4::pae) == 0;
    fill_tables(*memory, is_short ? 4 : 8, input.subspan(header_size));
    const auto before = entries_of(*memory);

    Tables tables{*memory};
    const auto theirs = mshvsim::translate(
        tables,
        one.cpu.system,
        one.linear,
        {.write = one.access == x86::Access::write,
         .execute = one.access == x86::Access::execute,
         .user = x86::privilege_level(one.cpu) == 3,
         .check = true});
    const auto ours = x86::translate(one.cpu, *memory, one.linear, one.access);
    judge(one, ours, theirs);
    judge_tables(before, entries_of(*memory), is_short);
    return 0;
}
