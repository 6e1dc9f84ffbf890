// SPDX-License-Identifier: Apache-2.0
#include "vmm/soft/identity_check.hpp"

#include <array>
#include <span>

#include <fmt/format.h>

namespace wherry::vmm::soft {

using formats::ErrorCode;
using formats::Gpa;
using formats::Status;

namespace {

constexpr std::uint64_t entry_present = 1;
constexpr std::uint64_t entry_is_large = 1U << 7U;
constexpr std::uint64_t address_bits = 0x000f'ffff'ffff'f000;
constexpr unsigned levels = 4;
/// Enough to map 128 GiB in small pages. A guest cannot keep the walk busy for longer.
constexpr unsigned most_tables = 65536;

using Table = std::array<std::uint64_t, 512>;

class Walk {
public:
    explicit Walk(const GuestMemory& memory) : memory_{memory} {}

    /// `base` is the first virtual address the table at `at` maps; `level` counts down to 1.
    Status table(std::uint64_t at, std::uint64_t base, unsigned level) {
        if (++tables_ > most_tables) {
            return formats::fail(ErrorCode::guest, "the guest's page tables are endless");
        }
        Table entries{};
        if (!memory_.read(Gpa{at}, std::as_writable_bytes(std::span{entries}))) {
            return {}; // not RAM: the guest would fault on it, too
        }
        const unsigned shift = 12 + 9 * (level - 1);
        for (std::uint64_t i = 0; i < entries.size(); ++i) {
            const std::uint64_t entry = entries[i];
            if ((entry & entry_present) == 0) {
                continue;
            }
            std::uint64_t address = base + (i << shift);
            if (level == levels && i >= entries.size() / 2) {
                address |= 0xffff'0000'0000'0000; // sign extension
            }
            const bool is_leaf = level == 1 || (level < levels && (entry & entry_is_large) != 0);
            const Status status =
                is_leaf ? leaf(address, entry & address_bits & ~((std::uint64_t{1} << shift) - 1))
                        : table(entry & address_bits, address, level - 1);
            if (!status) {
                return status;
            }
        }
        return {};
    }

private:
    Status leaf(std::uint64_t address, std::uint64_t target) const {
        if (address == target || !is_ram(target)) {
            return {};
        }
        return formats::fail(
            ErrorCode::guest,
            fmt::format(
                "the guest maps virtual address {:#x} to {:#x}; the soft backend runs only guests "
                "that map memory to its own address (kvm runs all)",
                address,
                target));
    }

    bool is_ram(std::uint64_t address) const {
        const auto frame = formats::gfn_of(Gpa{address});
        for (const MemoryRegion& region : memory_.regions()) {
            if (region.pages.contains(frame)) {
                return true;
            }
        }
        return false;
    }

    const GuestMemory& memory_;
    unsigned tables_ = 0;
};

} // namespace

Status check_identity_mapping(const GuestMemory& memory, std::uint64_t cr3) {
    return Walk{memory}.table(cr3 & address_bits, 0, levels);
}

} // namespace wherry::vmm::soft
