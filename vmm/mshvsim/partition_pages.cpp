// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/partition_pages.hpp"

#include "vmm/mshv/abi/register_names.hpp"
#include "vmm/mshv/abi/synthetic_features.hpp"

#include <algorithm>

namespace wherry::vmm::mshvsim {

namespace name_of = mshv::abi::registers;
namespace synthetic = mshv::abi::synthetic_features;

namespace {

constexpr std::uint64_t enabled = 1U << 0U;
constexpr std::uint64_t locked = 1U << 1U;

/// No hypercall of a guest is implemented: each returns "invalid hypercall code", in RAX, and in
/// EDX:EAX to 32-bit code. `mov eax, 2; xor edx, edx; ret`: the same bytes in both modes.
OverlayPage::Contents hypercall_code() {
    constexpr std::array<std::uint8_t, 8> code{0xb8, 0x02, 0x00, 0x00, 0x00, 0x31, 0xd2, 0xc3};
    OverlayPage::Contents page{};
    std::ranges::transform(code, page.begin(), [](auto value) { return std::byte{value}; });
    return page;
}

} // namespace

void PartitionPages::offer(std::uint64_t synthetic_features) {
    const std::scoped_lock held{lock_};
    hypercall_.offer((synthetic_features & synthetic::hypercall) != 0);
    reference_tsc_.offer((synthetic_features & synthetic::reference_tsc) != 0);
}

std::optional<std::uint64_t> PartitionPages::get(std::uint32_t name) {
    const std::scoped_lock held{lock_};
    switch (name) {
    case name_of::guest_os_id:
        return guest_os_id_;
    case name_of::hypercall:
        return hypercall_.control();
    case name_of::reference_tsc:
        return reference_tsc_.control();
    default:
        return std::nullopt;
    }
}

bool PartitionPages::set(std::uint32_t name, std::uint64_t value, Writer writer) {
    const std::scoped_lock held{lock_};
    switch (name) {
    case name_of::guest_os_id:
        guest_os_id_ = value;
        if (value == 0 && writer == Writer::guest) {
            set_hypercall(hypercall_.control() & ~enabled, writer);
        }
        return true;
    case name_of::hypercall:
        set_hypercall(value, writer);
        return true;
    case name_of::reference_tsc:
        // Sequence 0: no scale is promised, the guest reads TIME_REF_COUNT instead.
        reference_tsc_.set_control(value, {});
        return true;
    default:
        return false;
    }
}

/// With lock_.
void PartitionPages::set_hypercall(std::uint64_t value, Writer writer) {
    if (writer == Writer::guest) {
        if ((hypercall_.control() & locked) != 0) {
            return;
        }
        // A guest without an identity has no hypercalls.
        value &= guest_os_id_ == 0 ? ~enabled : ~std::uint64_t{0};
    }
    hypercall_.set_control(value, hypercall_code());
}

std::optional<std::uint64_t> PartitionPages::settle() {
    const std::scoped_lock held{lock_};
    const auto missing = hypercall_.settle();
    return missing ? missing : reference_tsc_.settle();
}

} // namespace wherry::vmm::mshvsim
