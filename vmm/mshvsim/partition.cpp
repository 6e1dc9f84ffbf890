// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/partition.hpp"

#include "vmm/mshv/abi/status.hpp"
#include "vmm/mshvsim/user_memory.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace wherry::vmm::mshvsim {

namespace ioctls = mshv::abi::ioctls;
namespace status = mshv::abi::status;
namespace interrupt_type = mshv::abi::hypercalls::interrupt_type;

namespace {

constexpr std::uint64_t most_reps = mshv::abi::hypercalls::max_gpa_access_reps;
constexpr std::uint64_t amx_features = std::uint64_t{0xf} << 26U;

/// Sheet 1.3. 0 or errno.
int read_create(std::uint64_t argument, ioctls::CreatePartition& wanted) {
    ioctls::CreatePartitionV1 first;
    if (!copy_in(first, argument)) {
        return EFAULT;
    }
    wanted.flags = first.flags;
    wanted.isolation = first.isolation;
    if ((first.flags & ~ioctls::partition_flags::all) != 0 || first.isolation != 0) {
        return EINVAL;
    }
    if ((first.flags & ioctls::partition_flags::cpu_and_xsave_features) == 0) {
        return 0;
    }
    if (!copy_in(wanted, argument)) {
        return EFAULT;
    }
    const auto is_zero = [](auto value) {
        return value == 0;
    };
    const bool is_good = (wanted.flags & ~ioctls::partition_flags::all) == 0 &&
                         wanted.isolation == 0 && wanted.feature_banks == 2 &&
                         std::ranges::all_of(wanted.reserved0, is_zero) &&
                         std::ranges::all_of(wanted.reserved1, is_zero);
    return is_good ? 0 : EINVAL;
}

} // namespace

int Partition::create(
    const SimulatorOptions& options,
    std::uint64_t id,
    std::uint64_t argument,
    std::shared_ptr<Partition>& made) {
    ioctls::CreatePartition wanted;
    if (const int error = read_create(argument, wanted); error != 0) {
        return -error;
    }
    auto engine = open_engine(options.engine);
    if (!engine) {
        return -ENOMEM;
    }
    constexpr std::uint64_t with_apic =
        ioctls::partition_flags::lapic | ioctls::partition_flags::x2apic;
    if (!(*engine)->capabilities().has_lapic && (wanted.flags & with_apic) != 0) {
        return -status::to_errno(status::processor_feature_not_supported);
    }
    auto offered = features_of((*engine)->capabilities());
    offered.processor[0] &= ~wanted.disabled_features[0];
    offered.processor[1] &= ~wanted.disabled_features[1];
    offered.xsave &= ~(wanted.disabled_xsave_features | amx_features);
    made = std::make_shared<Partition>(std::move(*engine), id, offered, options.personality);
    return 0;
}

Partition::Partition(
    std::unique_ptr<Engine> engine,
    std::uint64_t id,
    const FeatureBanks& offered,
    Personality personality)
    : hypervisor_{
          std::move(engine),
          id,
          offered,
          personality,
          [this](const Interrupt& interrupt) { assert_interrupt(interrupt); },
          [this](std::uint32_t index) {
              if (Vp* const waiting = vp(index); waiting != nullptr) {
                  waiting->wake();
              }
          }} {}

Vp* Partition::vp(std::uint64_t index) {
    const std::scoped_lock held{vps_lock_};
    return index < vps_.size() ? vps_[index].get() : nullptr;
}

int Partition::ioctl(std::uint64_t request, std::uint64_t argument) {
    const std::scoped_lock held{driver_lock_};
    switch (request) {
    case ioctls::initialize_partition:
        return initialize();
    case ioctls::set_guest_memory: {
        ioctls::MemoryRegion region;
        return copy_in(region, argument) ? hypervisor_.memory.set(region, is_initialized_)
                                         : -EFAULT;
    }
    case ioctls::irqfd: {
        ioctls::Irqfd irqfd;
        return copy_in(irqfd, argument) ? hypervisor_.interrupts.change(irqfd) : -EFAULT;
    }
    case ioctls::ioeventfd: {
        ioctls::Ioeventfd ioeventfd;
        return copy_in(ioeventfd, argument) ? hypervisor_.doorbells.change(ioeventfd) : -EFAULT;
    }
    case ioctls::set_msi_routing:
        return hypervisor_.interrupts.set_routing(argument);
    case ioctls::get_gpap_access_bitmap:
        return access_bitmap(argument);
    default:
        return -ENOTTY;
    }
}

int Partition::initialize() {
    if (!is_initialized_) {
        hypervisor_.cpuid.set_base(base_cpuid(
            hypervisor_.engine->capabilities(),
            hypervisor_.offered,
            hypervisor_.properties.synthetic_features()));
        hypervisor_.pages.offer(hypervisor_.properties.synthetic_features());
        is_initialized_ = true;
    }
    return 0;
}

int Partition::create_vp(std::uint64_t argument, Vp*& made) {
    const std::scoped_lock held{driver_lock_};
    ioctls::CreateVp wanted;
    if (!copy_in(wanted, argument)) {
        return -EFAULT;
    }
    if (wanted.vp_index >= ioctls::max_vps) {
        return -EINVAL;
    }
    if (vp(wanted.vp_index) != nullptr) {
        return -EEXIST;
    }
    if (!is_initialized_) {
        return -status::to_errno(status::invalid_partition_state);
    }
    if (wanted.vp_index >= hypervisor_.engine->capabilities().max_vcpus) {
        return -ENOMEM;
    }
    auto opened = Vp::open(hypervisor_, wanted.vp_index);
    if (!opened) {
        return -ENOMEM;
    }
    made = opened->get();
    const std::scoped_lock table{vps_lock_};
    vps_[wanted.vp_index] = std::move(*opened);
    return 0;
}

std::uint16_t Partition::assert_interrupt(const Interrupt& interrupt) {
    if (!hypervisor_.engine->capabilities().has_lapic) {
        return status::processor_feature_not_supported;
    }
    if (interrupt.type == interrupt_type::external) {
        Vp* const target = vp(interrupt.destination);
        return target != nullptr && target->inject_external(interrupt.vector)
                   ? status::success
                   : status::invalid_parameter;
    }
    const bool is_known =
        interrupt.type <= interrupt_type::sipi && interrupt.type != interrupt_type::remote_read;
    return is_known && hypervisor_.engine->assert_interrupt(interrupt) ? status::success
                                                                       : status::invalid_parameter;
}

/// Sheet 1.9. In batches of what one hypercall takes, as the driver does.
int Partition::access_bitmap(std::uint64_t argument) {
    namespace flags = mshv::abi::hypercalls::gpa_access_flags;
    ioctls::GpapAccessBitmap wanted;
    if (!copy_in(wanted, argument)) {
        return -EFAULT;
    }
    if (wanted.access_type > ioctls::access_type::dirty ||
        wanted.access_op > ioctls::access_op::set ||
        std::ranges::any_of(wanted.reserved, [](auto byte) { return byte != 0; }) ||
        wanted.page_count == 0 || wanted.bitmap == 0) {
        return -EINVAL;
    }
    if (wanted.first_gfn + wanted.page_count < wanted.first_gfn) {
        return -E2BIG;
    }
    constexpr std::uint64_t most_buffer = std::uint64_t{1} << 32U;
    if (wanted.page_count > most_buffer) {
        return -ENOMEM;
    }
    const bool is_dirty = wanted.access_type == ioctls::access_type::dirty;
    const bool is_clear = wanted.access_op == ioctls::access_op::clear;
    // No operation is executed as set by Linux 7.2; nothing is known of a kernel without that.
    const std::uint64_t operation =
        is_clear ? flags::clear_dirty | (is_dirty ? 0 : flags::clear_accessed)
                 : flags::set_accessed | (is_dirty ? flags::set_dirty : 0);
    const std::uint8_t bit = is_dirty ? mshv::abi::hypercalls::gpa_access_state::dirty
                                      : mshv::abi::hypercalls::gpa_access_state::accessed;
    const std::uint64_t pages = wanted.page_count & 0xffffffffU; // cut by the driver
    std::vector<std::uint8_t> bitmap;
    std::array<std::uint8_t, most_reps> states{};
    for (std::uint64_t done = 0; done < pages;) {
        const auto batch = std::span{states}.first(std::min(most_reps, pages - done));
        const auto answer =
            hypervisor_.memory.access_states(wanted.first_gfn + done, operation, batch);
        if (answer != status::success) {
            return -status::to_errno(answer);
        }
        bitmap.resize((done + batch.size() + 7) / 8);
        for (const std::uint8_t page : batch) {
            bitmap[done / 8] |= static_cast<std::uint8_t>((page & bit) != 0 ? 1U << done % 8 : 0U);
            ++done;
        }
    }
    return copy_out(wanted.bitmap, bitmap.data(), bitmap.size()) ? 0 : -EFAULT;
}

} // namespace wherry::vmm::mshvsim
