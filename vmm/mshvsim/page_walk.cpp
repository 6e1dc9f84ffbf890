// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/page_walk.hpp"

#include <array>
#include <bit>
#include <cstring>

namespace wherry::vmm::mshvsim {
namespace {

constexpr std::uint64_t present = 1U << 0U;
constexpr std::uint64_t writable = 1U << 1U;
constexpr std::uint64_t user = 1U << 2U;
constexpr std::uint64_t large = 1U << 7U;
constexpr std::uint64_t no_execute = std::uint64_t{1} << 63U;
constexpr std::uint64_t frame_mask = 0x000ffffffffff000;

constexpr std::uint64_t cr0_wp = 1U << 16U;
constexpr std::uint64_t cr0_pg = std::uint64_t{1} << 31U;
constexpr std::uint64_t cr4_pse = 1U << 4U;
constexpr std::uint64_t cr4_pae = 1U << 5U;
constexpr std::uint64_t cr4_la57 = 1U << 12U;
constexpr std::uint64_t efer_lma = 1U << 10U;
constexpr std::uint64_t efer_nx = 1U << 11U;

/// How linear addresses are cut in this mode.
struct Paging {
    int levels = 0; ///< 0: off
    unsigned entry_size = 8, bits = 9;
    std::uint64_t root = 0;
    bool has_large_directory = true;
};

Paging paging_of(const SystemRegisters& system) {
    if ((system.cr0 & cr0_pg) == 0) {
        return {};
    }
    if ((system.efer & efer_lma) != 0) {
        return {.levels = (system.cr4 & cr4_la57) != 0 ? 5 : 4, .root = system.cr3 & frame_mask};
    }
    if ((system.cr4 & cr4_pae) != 0) {
        return {.levels = 3, .root = system.cr3 & 0xffffffe0};
    }
    return {
        .levels = 2,
        .entry_size = 4,
        .bits = 10,
        .root = system.cr3 & 0xfffff000,
        .has_large_directory = (system.cr4 & cr4_pse) != 0};
}

std::optional<std::uint64_t> entry_at(MemoryFaults& memory, std::uint64_t gpa, unsigned size) {
    std::array<std::byte, 8> bytes{};
    if (!memory.read(gpa, std::span{bytes}.first(size))) {
        return std::nullopt;
    }
    return std::bit_cast<std::uint64_t>(bytes);
}

bool is_leaf(const Paging& paging, int level, std::uint64_t entry) {
    return level == 1 || ((entry & large) != 0 && level <= 3 && paging.has_large_directory &&
                          !(paging.levels == 3 && level == 3));
}

std::uint64_t leaf_address(const Paging& paging, unsigned shift, std::uint64_t entry) {
    std::uint64_t frame = entry & frame_mask;
    if (paging.entry_size == 4 && shift == 22) { // PSE-36, SDM vol. 3, table 4-4
        frame = (entry & 0xffc00000) | (((entry >> 13U) & 0xffU) << 32U);
    }
    return frame & ~((std::uint64_t{1} << shift) - 1);
}

struct Effective {
    bool writable = true, user = true, no_execute = false;
};

bool is_allowed(const Effective& page, const SystemRegisters& system, const AccessRights& rights) {
    if (!rights.check) {
        return true;
    }
    if (rights.user && !page.user) {
        return false;
    }
    if (rights.write && !page.writable && (rights.user || (system.cr0 & cr0_wp) != 0)) {
        return false;
    }
    return !(rights.execute && page.no_execute && (system.efer & efer_nx) != 0);
}

} // namespace

Translation translate(
    MemoryFaults& memory,
    const SystemRegisters& system,
    std::uint64_t linear,
    const AccessRights& rights) {
    using Outcome = Translation::Outcome;
    const Paging paging = paging_of(system);
    if (paging.levels == 0) {
        return {.gpa = linear & 0xffffffff};
    }
    std::uint64_t table = paging.root;
    Effective page;
    for (int level = paging.levels; level > 0; --level) {
        const unsigned shift = 12 + paging.bits * static_cast<unsigned>(level - 1);
        const std::uint64_t index = (linear >> shift) & ((1U << paging.bits) - 1);
        const std::uint64_t at = table + index * paging.entry_size;
        const auto entry = entry_at(memory, at, paging.entry_size);
        if (!entry) {
            return {.outcome = Outcome::table_unreadable, .gpa = at};
        }
        if ((*entry & present) == 0) {
            return {.outcome = Outcome::not_present};
        }
        if (!(paging.levels == 3 && level == 3)) { // PAE's top entries have no rights
            page.writable = page.writable && (*entry & writable) != 0;
            page.user = page.user && (*entry & user) != 0;
            page.no_execute = page.no_execute || (*entry & no_execute) != 0;
        }
        if (is_leaf(paging, level, *entry)) {
            if (!is_allowed(page, system, rights)) {
                return {.outcome = Outcome::privilege};
            }
            const std::uint64_t offset = linear & ((std::uint64_t{1} << shift) - 1);
            return {.gpa = leaf_address(paging, shift, *entry) | offset};
        }
        table = *entry & (paging.entry_size == 4 ? 0xfffff000 : frame_mask);
    }
    return {.outcome = Outcome::bad_flags};
}

namespace {

struct Visit {
    MemoryFaults& memory;
    const Paging& paging;
    std::size_t left;
    const std::function<bool(std::uint64_t)>& visit;
};

bool visit_table(Visit& visit, std::uint64_t table, int level) {
    if (visit.left == 0 || !visit.visit(table)) {
        return false;
    }
    --visit.left;
    if (level == 1) {
        return true;
    }
    std::array<std::byte, 4096> bytes{};
    const bool is_short = visit.paging.levels == 3 && level == 3;
    const std::size_t size = is_short ? 32 : bytes.size();
    if (!visit.memory.read(table, std::span{bytes}.first(size))) {
        return true;
    }
    for (std::size_t at = 0; at < size; at += visit.paging.entry_size) {
        std::uint64_t entry = 0;
        std::memcpy(&entry, bytes.data() + at, visit.paging.entry_size);
        if ((entry & present) == 0 || is_leaf(visit.paging, level, entry)) {
            continue;
        }
        if (!visit_table(visit, entry & frame_mask, level - 1)) {
            return false;
        }
    }
    return true;
}

} // namespace

void visit_page_tables(
    MemoryFaults& memory,
    const SystemRegisters& system,
    std::size_t most,
    const std::function<bool(std::uint64_t table)>& visit) {
    const Paging paging = paging_of(system);
    if (paging.levels != 0) {
        Visit all{.memory = memory, .paging = paging, .left = most, .visit = visit};
        visit_table(all, paging.root, paging.levels);
    }
}

} // namespace wherry::vmm::mshvsim
