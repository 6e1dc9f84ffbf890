// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/clock.hpp"

#include "vmm/guest_clock.hpp"
#include "vmm/kvm/abi.hpp"
#include "vmm/kvm/system.hpp"

#include <fmt/format.h>

namespace wherry::vmm::kvm {

using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;
using std::chrono::nanoseconds;

Result<PartitionClock> Clock::save() {
    kvm_clock_data data{};
    if (const auto got = call(vm_, KVM_GET_CLOCK, &data, "KVM_GET_CLOCK"); !got) {
        return fail(got.error());
    }
    // The kernel reads all three as one where its clocks are the TSC; elsewhere we come close.
    HostMoment moment = read_host_moment();
    if ((data.flags & KVM_CLOCK_REALTIME) != 0 && (data.flags & KVM_CLOCK_HOST_TSC) != 0) {
        moment = {
            .tsc = data.host_tsc,
            .real_time = nanoseconds{static_cast<std::int64_t>(data.realtime)}};
    }
    saved_at_ = moment.tsc;
    return PartitionClock{
        .reference_time = nanoseconds{static_cast<std::int64_t>(data.clock)},
        .host_real_time = moment.real_time};
}

Status Clock::restore(const PartitionClock& clock) {
    const HostMoment moment = read_host_moment();
    const nanoseconds elapsed = passed(clock.host_real_time, moment.real_time);
    if (clock.reference_time < nanoseconds{0} ||
        clock.reference_time > nanoseconds::max() - elapsed) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format("a reference time of {} ns", clock.reference_time.count()));
    }
    kvm_clock_data data{};
    data.clock = static_cast<std::uint64_t>((clock.reference_time + elapsed).count());
    if (const auto set = call(vm_, KVM_SET_CLOCK, &data, "KVM_SET_CLOCK"); !set) {
        return fail(set.error());
    }
    anchor_ = Anchor{.host_tsc = moment.tsc, .elapsed = elapsed};
    return {};
}

std::uint64_t Clock::saved_at() const noexcept {
    return saved_at_.value_or(read_host_tsc());
}

Clock::Anchor Clock::anchor() const noexcept {
    return anchor_.value_or(Anchor{.host_tsc = read_host_tsc(), .elapsed = nanoseconds{0}});
}

} // namespace wherry::vmm::kvm
