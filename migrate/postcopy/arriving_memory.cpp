// SPDX-License-Identifier: Apache-2.0
#include "migrate/postcopy/arriving_memory.hpp"

#include <utility>

namespace wherry::migrate {

ArrivingMemory::ArrivingMemory(
    vmm::Machine& machine,
    std::unique_ptr<vmm::FaultSource> source,
    std::function<void()> on_fault,
    std::function<void()> on_complete)
    : machine_{machine},
      queue_{std::move(on_fault)},
      source_{std::move(source)},
      placement_{*source_, queue_, std::move(on_complete)} {}

formats::Result<std::unique_ptr<ArrivingMemory>> ArrivingMemory::arm(
    vmm::Machine& machine,
    const dirtylog::DirtySet& missing,
    vmm::MemoryBefore before,
    std::function<void()> on_fault,
    std::function<void()> on_complete) {
    auto source = machine.partition().make_fault_source(machine.memory());
    if (!source) {
        return formats::fail(std::move(source).error());
    }
    std::unique_ptr<ArrivingMemory> memory{new ArrivingMemory{
        machine, *std::move(source), std::move(on_fault), std::move(on_complete)}};
    auto armed = memory->source_->arm(missing.bitmaps(), *memory, before);
    if (!armed) {
        return formats::fail(std::move(armed).error().during("catching accesses to missing pages"));
    }
    return memory;
}

formats::Status ArrivingMemory::narrow(const dirtylog::DirtySet& missing) {
    const auto gone = source_->narrow(missing.bitmaps());
    if (!gone) {
        return formats::fail(gone.error());
    }
    for (const formats::PageRange pages : *gone) {
        queue_.arrived(pages);
    }
    return {};
}

dirtylog::DirtySet ArrivingMemory::missing() const {
    dirtylog::DirtySet set{machine_.memory()};
    for (const formats::PageRange pages : source_->missing_pages()) {
        set.mark(pages);
    }
    return set;
}

FaultReport ArrivingMemory::report() const {
    const LatencyHistogram latency = queue_.latency();
    return {
        .count = latency.count(),
        .median = latency.percentile(50),
        .p99 = latency.percentile(99),
        .longest = latency.longest(),
        .repeated = placement_.repeated()};
}

} // namespace wherry::migrate
