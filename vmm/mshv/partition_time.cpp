// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/partition_time.hpp"

#include "vmm/guest_clock.hpp"
#include "vmm/mshv/abi/properties.hpp"

#include <fmt/format.h>

namespace wherry::vmm::mshv {

namespace properties = abi::properties;
using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;
using std::chrono::nanoseconds;

namespace {
using ReferenceTicks = std::chrono::duration<std::uint64_t, std::ratio<1, 10'000'000>>;
}

Status PartitionTime::write(nanoseconds reference) const {
    return partition_.set_property(
        properties::reference_time,
        std::chrono::duration_cast<ReferenceTicks>(reference).count(),
        "setting the reference time");
}

Status PartitionTime::freeze_locked() {
    if (is_frozen_) {
        return {};
    }
    auto frozen = partition_.set_property(properties::time_freeze, 1, "freezing time");
    if (!frozen) {
        return frozen;
    }
    const auto reference = partition_.property(properties::reference_time, "the reference time");
    const auto moment = read_host_moment();
    if (!reference) {
        return fail(reference.error());
    }
    frozen_ = {
        .reference_time = std::chrono::duration_cast<nanoseconds>(ReferenceTicks{*reference}),
        .host_real_time = moment.real_time};
    is_frozen_ = true;
    return {};
}

Status PartitionTime::freeze() {
    const std::scoped_lock held{lock_};
    return freeze_locked();
}

Result<PartitionClock> PartitionTime::save() {
    const std::scoped_lock held{lock_};
    if (auto frozen = freeze_locked(); !frozen) {
        return fail(std::move(frozen.error()));
    }
    const auto moment = read_host_moment();
    saved_at_ = moment.tsc;
    saved_real_time_ = moment.real_time;
    return PartitionClock{
        .reference_time = frozen_.reference_time + passed(frozen_.host_real_time, moment.real_time),
        .host_real_time = moment.real_time};
}

Status PartitionTime::restore(const PartitionClock& clock) {
    const std::scoped_lock held{lock_};
    if (auto frozen = freeze_locked(); !frozen) {
        return frozen;
    }
    const auto moment = read_host_moment();
    const nanoseconds elapsed = passed(clock.host_real_time, moment.real_time);
    if (clock.reference_time < nanoseconds{0} ||
        clock.reference_time > nanoseconds::max() - elapsed) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format("a reference time of {} ns", clock.reference_time.count()));
    }
    const PartitionClock now{
        .reference_time = clock.reference_time + elapsed, .host_real_time = moment.real_time};
    if (auto written = write(now.reference_time); !written) {
        return written;
    }
    frozen_ = now;
    anchor_ = {.host_tsc = moment.tsc, .elapsed = elapsed};
    return {};
}

Status PartitionTime::thaw() {
    if (!is_frozen_) {
        return {};
    }
    const std::scoped_lock held{lock_};
    if (!is_frozen_) {
        return {};
    }
    const auto now = read_host_moment().real_time;
    if (auto written = write(frozen_.reference_time + passed(frozen_.host_real_time, now));
        !written) {
        return written;
    }
    if (auto thawed = partition_.set_property(properties::time_freeze, 0, "thawing time");
        !thawed) {
        return thawed;
    }
    is_frozen_ = false;
    return {};
}

nanoseconds PartitionTime::frozen_until_save() const noexcept {
    return passed(frozen_.host_real_time, saved_real_time_);
}

} // namespace wherry::vmm::mshv
