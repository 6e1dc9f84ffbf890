// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/synthetic_timers.hpp"

#include "vmm/mshv/abi/register_names.hpp"
#include "vmm/mshv/abi/status.hpp"
#include "vmm/mshv/abi/synthetic_features.hpp"

#include <algorithm>
#include <cstring>

namespace wherry::vmm::mshvsim {

namespace name_of = mshv::abi::registers;
namespace status = mshv::abi::status;
namespace synthetic = mshv::abi::synthetic_features;
namespace config = mshv::abi::vp_state::synthetic_timer_config;

namespace {

constexpr unsigned vector_shift = 4, sint_shift = 16;
constexpr std::uint64_t first_vector = 16;
constexpr std::uint64_t known = config::enable | config::periodic | config::lazy |
                                config::auto_enable | config::vector | config::direct |
                                config::sint;
constexpr std::uint32_t undelivered = 1;
/// In 100 ns. A shorter period would let the guest do nothing but begin to run.
constexpr std::uint64_t shortest_run = 1000;

/// Payload of a timer's message.
struct Expired {
    std::uint32_t timer = 0, reserved = 0;
    std::uint64_t expiration = 0, delivery = 0;
};
static_assert(sizeof(Expired) == 24);

using Timer = mshv::abi::vp_state::SyntheticTimer;

bool is_armed(const Timer& timer) {
    return (timer.config & config::enable) != 0 && timer.count != 0;
}

/// A one-shot timer's count is its due time; a periodic one's next is in `adjustment`.
std::uint64_t due_of(const Timer& timer) {
    return (timer.config & config::periodic) != 0 ? timer.adjustment : timer.count;
}

} // namespace

SyntheticTimers::SyntheticTimers(Hypervisor& hypervisor, std::uint32_t index, Synic& synic)
    : hypervisor_{hypervisor},
      index_{index},
      synic_{synic} {
    const std::uint64_t offered = hypervisor.properties.synthetic_features();
    is_offered_ = (offered & synthetic::synthetic_timers) != 0;
    has_direct_ = (offered & synthetic::direct_synthetic_timers) != 0;
}

std::optional<std::uint64_t> SyntheticTimers::get(std::uint32_t name) const {
    const std::uint32_t at = name - name_of::stimer0_config;
    if (name < name_of::stimer0_config || at >= 2 * state_.timers.size()) {
        return std::nullopt;
    }
    const auto& timer = state_.timers[at / 2];
    return at % 2 == 0 ? timer.config : timer.count;
}

std::optional<std::uint16_t>
SyntheticTimers::set(std::uint32_t name, std::uint64_t value, Writer writer) {
    const std::uint32_t at = name - name_of::stimer0_config;
    if (name < name_of::stimer0_config || at >= 2 * state_.timers.size()) {
        return std::nullopt;
    }
    auto& timer = state_.timers[at / 2];
    if (at % 2 == 0) {
        const bool is_direct = (value & config::direct) != 0;
        const std::uint64_t vector = (value & config::vector) >> vector_shift;
        if (writer == Writer::guest && is_direct && (!has_direct_ || vector < first_vector)) {
            return status::invalid_register_value;
        }
        timer.config = value & known;
        // SINT 0 is the hypervisor's own.
        if (!is_direct && (value & config::sint) == 0) {
            timer.config &= ~config::enable;
        }
    } else {
        timer.count = value;
        if (value == 0) {
            timer.config &= ~config::enable;
        } else if ((timer.config & config::auto_enable) != 0) {
            timer.config |= config::enable;
        }
    }
    start(timer);
    return status::success;
}

void SyntheticTimers::start(Timer& timer) {
    timer.flags = 0;
    timer.undelivered_expiration_time = 0;
    const bool is_periodic = is_armed(timer) && (timer.config & config::periodic) != 0;
    timer.adjustment = is_periodic ? hypervisor_.properties.clock().now() + timer.count : 0;
}

void SyntheticTimers::serve() {
    if (!is_offered_) {
        return;
    }
    std::optional<std::uint64_t> next;
    const auto is_at_work = [](const Timer& timer) {
        return is_armed(timer) || (timer.flags & undelivered) != 0;
    };
    if (std::ranges::any_of(state_.timers, is_at_work)) {
        const std::uint64_t now = hypervisor_.properties.clock().now();
        for (std::uint32_t number = 0; number < state_.timers.size(); ++number) {
            auto& timer = state_.timers[number];
            if ((timer.flags & undelivered) != 0 &&
                deliver(number, timer.undelivered_expiration_time, now)) {
                timer.flags &= ~undelivered;
                timer.undelivered_expiration_time = 0;
            }
            // One message at a time: what is still to be delivered holds back what comes next.
            if ((timer.flags & undelivered) == 0 && is_armed(timer) && due_of(timer) <= now) {
                expire(number, now);
            }
            if ((timer.flags & undelivered) == 0 && is_armed(timer)) {
                const std::uint64_t due = std::max(due_of(timer), now + shortest_run);
                next = next ? std::min(*next, due) : due;
            }
        }
    }
    if (next || has_alarm_) {
        hypervisor_.alarm.set(index_, next);
        has_alarm_ = next.has_value();
    }
}

void SyntheticTimers::expire(std::uint32_t number, std::uint64_t now) {
    auto& timer = state_.timers[number];
    const std::uint64_t expiration = due_of(timer);
    if ((timer.config & config::periodic) != 0) {
        // Periods that nobody saw pass are not made up for.
        timer.adjustment = now + timer.count - (now - expiration) % timer.count;
    } else {
        timer.config &= ~config::enable;
    }
    if (!deliver(number, expiration, now)) {
        timer.flags |= undelivered;
        timer.undelivered_expiration_time = expiration;
    }
}

bool SyntheticTimers::deliver(std::uint32_t number, std::uint64_t expiration, std::uint64_t now) {
    const std::uint64_t setting = state_.timers[number].config;
    if ((setting & config::direct) != 0) {
        synic_.interrupt(static_cast<std::uint8_t>((setting & config::vector) >> vector_shift));
        return true;
    }
    const Expired payload{.timer = number, .expiration = expiration, .delivery = now};
    Synic::Message message{
        .type = mshv::abi::messages::timer_expired, .payload_size = sizeof(payload)};
    std::memcpy(message.payload.data(), &payload, sizeof(payload));
    const auto sint = static_cast<std::uint32_t>((setting & config::sint) >> sint_shift);
    return synic_.post(sint, message) == status::success;
}

} // namespace wherry::vmm::mshvsim
