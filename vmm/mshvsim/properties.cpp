// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/properties.hpp"

#include "vmm/mshv/abi/properties.hpp"
#include "vmm/mshv/abi/status.hpp"

namespace wherry::vmm::mshvsim {

namespace property = mshv::abi::properties;
namespace status = mshv::abi::status;

std::uint64_t ReferenceClock::running_now() const {
    using Hundreds = std::chrono::duration<std::int64_t, std::ratio<1, 10'000'000>>;
    const auto passed = std::chrono::duration_cast<Hundreds>(Clock::now() - since_);
    return base_ + static_cast<std::uint64_t>(passed.count());
}

std::uint64_t ReferenceClock::now() {
    const std::scoped_lock held{lock_};
    return frozen_ ? base_ : running_now();
}

bool ReferenceClock::is_frozen() {
    const std::scoped_lock held{lock_};
    return frozen_;
}

void ReferenceClock::freeze(bool frozen) {
    const std::scoped_lock held{lock_};
    if (frozen && !frozen_) {
        base_ = running_now();
    }
    if (!frozen && frozen_) {
        since_ = Clock::now();
    }
    frozen_ = frozen;
}

bool ReferenceClock::set(std::uint64_t value) {
    const std::scoped_lock held{lock_};
    if (frozen_) {
        base_ = value;
    }
    return frozen_;
}

namespace {

constexpr std::uint64_t compatibility_version = 0x609;

std::uint64_t vendor_of(const EngineCapabilities& engine) {
    constexpr std::uint32_t amd = 0x68747541; // "Auth"
    for (const auto& entry : engine.cpuid) {
        if (entry.leaf == 0 && entry.ebx == amd) {
            return 0;
        }
    }
    return 1;
}

std::optional<std::uint64_t>
fixed_property(const EngineCapabilities& engine, const FeatureBanks& offered, std::uint32_t code) {
    const std::uint64_t states = xsave_states(engine, offered);
    switch (code) {
    case property::processor_vendor:
        return vendor_of(engine);
    case property::processor_xsave_features:
        return offered.xsave;
    case property::compatibility_version:
        return compatibility_version;
    case property::physical_address_width:
    case property::implemented_physical_address_bits:
        return physical_address_bits(engine);
    case property::xsave_states:
        return states;
    case property::max_xsave_data_size:
        return compacted_size(engine.cpuid, states);
    case property::processor_clock_frequency:
        return engine.tsc_frequency_khz * 1000;
    case property::processor_features0:
        return offered.processor[0];
    case property::processor_features1:
        return offered.processor[1];
    default:
        return std::nullopt;
    }
}

} // namespace

std::optional<std::uint64_t> host_property(const EngineCapabilities& engine, std::uint32_t code) {
    return fixed_property(engine, features_of(engine), code);
}

Properties::Properties(const EngineCapabilities& engine, const FeatureBanks& offered)
    : engine_{engine},
      offered_{offered},
      stored_{
          {property::privilege_flags, 0},
          {property::synthetic_processor_features, 0},
          {property::suspend, 0},
          {property::cpu_reserve, 0},
          {property::cpu_cap, 0},
          {property::cpu_weight, 100},
          {property::cpu_group_id, 0},
          {property::vsm_config, 0},
          {property::zero_memory_on_reset, 0},
          {property::processors_per_socket, 1},
          {property::gpa_page_access_tracking, 0},
          {property::isolation_state, 0},
          {property::isolation_control, 0},
          {property::unimplemented_msr_action, 0},
          {property::guest_os_id, 0}} {}

std::uint16_t Properties::get(std::uint32_t code, std::uint64_t& value) {
    if (const auto fixed = fixed_property(engine_, offered_, code)) {
        value = *fixed;
        return status::success;
    }
    if (code == property::reference_time) {
        value = clock_.now();
        return status::success;
    }
    if (code == property::time_freeze) {
        value = clock_.is_frozen() ? 1 : 0;
        return status::success;
    }
    const std::scoped_lock held{lock_};
    const auto found = stored_.find(code);
    if (found == stored_.end()) {
        return status::unknown_property;
    }
    value = found->second;
    return status::success;
}

std::uint16_t Properties::set(std::uint32_t code, std::uint64_t value, bool is_initialized) {
    if (code == property::time_freeze) {
        if (value > 1) {
            return status::property_value_out_of_range;
        }
        clock_.freeze(value != 0);
        return status::success;
    }
    if (code == property::reference_time) { // sheet 9.16: the status is not known
        return clock_.set(value) ? status::success : status::invalid_partition_state;
    }
    if (fixed_property(engine_, offered_, code)) {
        return status::access_denied;
    }
    const bool is_early =
        code == property::privilege_flags || code == property::synthetic_processor_features;
    if (is_early && is_initialized) {
        return status::invalid_partition_state;
    }
    const std::scoped_lock held{lock_};
    const auto found = stored_.find(code);
    if (found == stored_.end()) {
        return status::unknown_property;
    }
    if ((code == property::unimplemented_msr_action && value > 1) ||
        (code == property::gpa_page_access_tracking && value > 3)) {
        return status::property_value_out_of_range;
    }
    if (code == property::synthetic_processor_features) {
        value &= assignable_synthetic_features(engine_);
    }
    found->second = value;
    return status::success;
}

std::uint64_t Properties::synthetic_features() {
    const std::scoped_lock held{lock_};
    return stored_.at(property::synthetic_processor_features);
}

bool Properties::ignores_unknown_msrs() {
    const std::scoped_lock held{lock_};
    return stored_.at(property::unimplemented_msr_action) == 1;
}

} // namespace wherry::vmm::mshvsim
