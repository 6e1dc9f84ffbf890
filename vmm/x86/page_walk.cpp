// SPDX-License-Identifier: Apache-2.0
#include "vmm/x86/page_walk.hpp"

#include <array>
#include <cstddef>
#include <span>

#include <fmt/format.h>

namespace wherry::vmm::x86 {

using formats::Gpa;
using formats::Result;

namespace {

namespace entry {
constexpr std::uint64_t present = 1U << 0U, writable = 1U << 1U, user = 1U << 2U,
                        accessed = 1U << 5U, dirty = 1U << 6U, large = 1U << 7U;
constexpr std::uint64_t no_execute = std::uint64_t{1} << 63U;
} // namespace entry

namespace fault {
constexpr std::uint32_t protection = 1U << 0U, write = 1U << 1U, user = 1U << 2U,
                        reserved = 1U << 3U, fetch = 1U << 4U;
} // namespace fault

/// Bits [from, to) of a word.
constexpr std::uint64_t bits(unsigned from, unsigned to) {
    return from >= to ? 0 : (~std::uint64_t{0} >> (64U - (to - from))) << from;
}

/// The shape of the tables of one paging mode. Level 1 holds the entries of 4 KiB pages.
struct Format {
    unsigned levels;
    unsigned index_bits;
    unsigned entry_bytes;
    std::uint64_t root_mask;
    bool is_long;
};

Format format_of(const SystemRegisters& system) {
    if ((system.cr4 & cr4::pae) == 0) {
        return {
            .levels = 2,
            .index_bits = 10,
            .entry_bytes = 4,
            .root_mask = bits(12, 32),
            .is_long = false};
    }
    if ((system.efer & efer::lma) == 0) {
        return {
            .levels = 3,
            .index_bits = 9,
            .entry_bytes = 8,
            .root_mask = bits(5, 32),
            .is_long = false};
    }
    const unsigned levels = (system.cr4 & cr4::la57) != 0 ? 5 : 4;
    return {
        .levels = levels,
        .index_bits = 9,
        .entry_bytes = 8,
        .root_mask = bits(12, 52),
        .is_long = true};
}

struct Entry {
    Gpa at;
    std::uint64_t value = 0;
};

/// One walk: what the tables say, then whether the access may.
class Walk {
public:
    Walk(const CpuState& cpu, GuestMemory& memory, std::uint64_t linear, Access access)
        : cpu_{cpu},
          memory_{memory},
          linear_{linear},
          access_{access},
          format_{format_of(cpu.system)} {}

    Result<Translation> run();

private:
    [[nodiscard]] Translation page_fault(std::uint32_t cause) const;
    [[nodiscard]] Result<std::uint64_t> read_entry(Gpa at) const;
    [[nodiscard]] bool is_leaf(unsigned level, std::uint64_t value) const;
    [[nodiscard]] std::uint64_t reserved_bits(unsigned level, std::uint64_t value) const;
    [[nodiscard]] bool is_permitted() const;
    [[nodiscard]] Gpa address_in_page(unsigned level, std::uint64_t value) const;
    Result<bool> mark_used();
    Result<bool> mark(Entry& used, std::uint64_t flags);

    const CpuState& cpu_;
    GuestMemory& memory_;
    std::uint64_t linear_;
    Access access_;
    Format format_;

    std::array<Entry, 5> used_{}; // from the root down, the leaf last
    std::size_t used_count_ = 0;
    bool is_writable_ = true, is_user_ = true, is_executable_ = true;
};

bool can_refuse_execution(const SystemRegisters& system) {
    return (system.efer & efer::nxe) != 0 && (system.cr4 & cr4::pae) != 0;
}

Translation Walk::page_fault(std::uint32_t cause) const {
    std::uint32_t code = cause;
    code |= access_ == Access::write ? fault::write : 0;
    code |= privilege_level(cpu_) == 3 ? fault::user : 0;
    const bool tells_fetches =
        can_refuse_execution(cpu_.system) || (cpu_.system.cr4 & cr4::smep) != 0;
    code |= access_ == Access::execute && tells_fetches ? fault::fetch : 0;
    return std::unexpected{
        Exception{.vector = vector::page_fault, .error_code = code, .parameter = linear_}};
}

Result<std::uint64_t> Walk::read_entry(Gpa at) const {
    std::array<std::byte, 8> bytes{};
    if (auto read = memory_.read(at, std::span{bytes}.first(format_.entry_bytes)); !read) {
        return formats::fail(std::move(read).error().during(fmt::format(
            "reading the page table entry at {:#x} for address {:#x}", at.value(), linear_)));
    }
    std::uint64_t value = 0;
    for (std::size_t i = bytes.size(); i-- > 0;) {
        value = value << 8U | std::to_integer<std::uint64_t>(bytes[i]);
    }
    return value;
}

bool Walk::is_leaf(unsigned level, std::uint64_t value) const {
    if (level == 1) {
        return true;
    }
    if ((value & entry::large) == 0) {
        return false;
    }
    if (format_.levels == 2) {
        return (cpu_.system.cr4 & cr4::pse) != 0;
    }
    return level == 2 || (level == 3 && format_.is_long);
}

std::uint64_t Walk::reserved_bits(unsigned level, std::uint64_t value) const {
    if (format_.levels == 2) {
        return is_leaf(level, value) && level == 2 ? bits(21, 22) : 0;
    }
    const unsigned width = cpu_.physical_address_bits;
    if (format_.levels == 3 && level == 3) {
        return bits(1, 3) | bits(5, 9) | bits(width, 64);
    }
    std::uint64_t reserved = format_.is_long ? bits(width, 52) : bits(width, 63);
    reserved |= can_refuse_execution(cpu_.system) ? 0 : entry::no_execute;
    if (level >= 4) {
        reserved |= entry::large;
    } else if (level > 1 && is_leaf(level, value)) {
        reserved |= bits(13, level == 2 ? 21 : 30);
    }
    return reserved;
}

bool Walk::is_permitted() const {
    const auto& system = cpu_.system;
    const bool by_user = privilege_level(cpu_) == 3;
    if (by_user && !is_user_) {
        return false;
    }
    const bool supervisor_on_user_page = !by_user && is_user_;
    if (access_ == Access::execute) {
        return is_executable_ && !(supervisor_on_user_page && (system.cr4 & cr4::smep) != 0);
    }
    if (supervisor_on_user_page && (system.cr4 & cr4::smap) != 0 &&
        (cpu_.registers.rflags & rflags::ac) == 0) {
        return false;
    }
    const bool ignores_writable = !by_user && (system.cr0 & cr0::wp) == 0;
    return access_ == Access::read || is_writable_ || ignores_writable;
}

Gpa Walk::address_in_page(unsigned level, std::uint64_t value) const {
    const unsigned shift = 12 + (level - 1) * format_.index_bits;
    const std::uint64_t offset = linear_ & bits(0, shift);
    if (format_.levels == 2) {
        // PSE-36: bits 20:13 of a 4 MiB entry are address bits 39:32.
        const std::uint64_t high = level == 2 ? (value & bits(13, 21)) << 19U : 0;
        return Gpa{(value & bits(shift, 32)) | high | offset};
    }
    return Gpa{(value & bits(shift, 52)) | offset};
}

/// Sets flags in a table entry, unless another vCPU changed the entry meanwhile: false then.
Result<bool> Walk::mark(Entry& used, std::uint64_t flags) {
    if ((used.value & flags) == flags) {
        return true;
    }
    const std::uint64_t wanted = used.value | flags;
    auto done = format_.entry_bytes == 4 ? memory_.compare_exchange(
                                               used.at,
                                               static_cast<std::uint32_t>(used.value),
                                               static_cast<std::uint32_t>(wanted))
                                         : memory_.compare_exchange(used.at, used.value, wanted);
    return done;
}

Result<bool> Walk::mark_used() {
    for (std::size_t i = 0; i < used_count_; ++i) {
        const bool sets_dirty = i + 1 == used_count_ && access_ == Access::write;
        auto marked = mark(used_[i], entry::accessed | (sets_dirty ? entry::dirty : 0));
        if (!marked || !*marked) {
            return marked;
        }
    }
    return true;
}

Result<Translation> Walk::run() {
    used_count_ = 0;
    is_writable_ = is_user_ = is_executable_ = true;
    std::uint64_t table = cpu_.system.cr3 & format_.root_mask;
    for (unsigned level = format_.levels;; --level) {
        const unsigned shift = 12 + (level - 1) * format_.index_bits;
        const std::uint64_t index = (linear_ >> shift) & bits(0, format_.index_bits);
        const Gpa at{table + index * format_.entry_bytes};
        const auto value = read_entry(at);
        if (!value) {
            return formats::fail(value.error());
        }
        if ((*value & entry::present) == 0) {
            return page_fault(0);
        }
        if ((*value & reserved_bits(level, *value)) != 0) {
            return page_fault(fault::protection | fault::reserved);
        }
        // The top entries of PAE paging are no more than pointers.
        if (format_.levels != 3 || level != 3) {
            is_writable_ = is_writable_ && (*value & entry::writable) != 0;
            is_user_ = is_user_ && (*value & entry::user) != 0;
            is_executable_ = is_executable_ && (*value & entry::no_execute) == 0;
            used_[used_count_++] = {.at = at, .value = *value};
        }
        if (!is_leaf(level, *value)) {
            table = *value & bits(12, 52);
            continue;
        }
        if (!is_permitted()) {
            return page_fault(fault::protection);
        }
        auto marked = mark_used();
        if (!marked) {
            return formats::fail(std::move(marked.error()));
        }
        return *marked ? Translation{address_in_page(level, *value)} : run();
    }
}

} // namespace

Result<Translation>
translate(const CpuState& cpu, GuestMemory& memory, std::uint64_t linear, Access access) {
    if ((cpu.system.cr0 & cr0::pg) == 0) {
        return Translation{Gpa{linear & bits(0, 32)}};
    }
    return Walk{cpu, memory, linear, access}.run();
}

} // namespace wherry::vmm::x86
