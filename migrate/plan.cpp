// SPDX-License-Identifier: Apache-2.0
#include "migrate/plan.hpp"

#include "formats/error_message.hpp"
#include "formats/proto/control.pb.h"
#include "migrate/ownership/event.hpp"
#include "vmm/cpu_profile.hpp"
#include "vmm/guest_clock.hpp"
#include "vmm/saved_state.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace wherry::migrate {

namespace {

using formats::Bytes;
using formats::ErrorCode;

/// For what a VMM takes besides its guest's RAM: page tables, buffers, state.
constexpr Bytes memory_reserve = formats::Bytes{std::uint64_t{64} << 20U};
constexpr int regions_limit = 64;
/// Of findings, and of objections, of a peer.
constexpr int sentences_limit = 16;

std::vector<std::string> sentences_of(const google::protobuf::RepeatedPtrField<std::string>& said) {
    std::vector<std::string> sentences;
    for (int i = 0; i < std::min(said.size(), sentences_limit); ++i) {
        sentences.push_back(formats::sanitised(said[i]));
    }
    return sentences;
}

double in_mib(Bytes bytes) {
    return static_cast<double>(bytes.value()) / (1024.0 * 1024.0);
}

bool tsc_fits(const Plan& plan, const vmm::BackendCapabilities& host) {
    const auto theirs = plan.tsc_frequency_khz;
    const auto ours = host.tsc_frequency_khz;
    if (theirs == 0 || ours == 0 || host.can_scale_tsc) {
        return true;
    }
    return vmm::same_frequency(theirs, ours);
}

Bytes memory_needed(const Plan& plan) {
    return plan.config.memory + memory_reserve;
}

bool memory_suffices(const Plan& plan, const HostOffer& host) {
    return host.available_memory >= memory_reserve &&
           host.available_memory - memory_reserve >= plan.config.memory;
}

std::vector<std::string> missing_features(const Plan& plan, const HostOffer& host) {
    std::vector<std::string> reasons;
    auto features = vmm::missing_cpu_features(plan.config.cpuid, host.backend);
    if (plan.page_size != formats::page_bytes) {
        reasons.push_back(fmt::format(
            "the VM's pages are of {} bytes, and this side knows pages of {} bytes",
            plan.page_size.value(),
            formats::page_size));
    }
    if (plan.config.vcpus > host.backend.max_vcpus) {
        reasons.push_back(fmt::format(
            "the VM has {} vCPUs, and {} offers at most {} here",
            plan.config.vcpus,
            host.backend.name,
            host.backend.max_vcpus));
    }
    if (plan.has_interrupt_controller && !host.backend.has_interrupt_controller) {
        reasons.push_back(fmt::format(
            "the VM uses interrupt controllers (on {}), and {} has none here",
            plan.backend,
            host.backend.name));
    }
    if (!plan.has_interrupt_controller && host.backend.has_interrupt_controller) {
        reasons.push_back(fmt::format(
            "the VM has lived without interrupt controllers (on {}), and {} gives each vCPU one, "
            "whose state nobody has",
            plan.backend,
            host.backend.name));
    }
    // missing_cpu_features speaks of the frequency itself where the guest's CPUID tells it.
    const bool said = vmm::timer_frequencies(plan.config.cpuid).tsc != 0;
    if (!said && !tsc_fits(plan, host.backend)) {
        reasons.push_back(fmt::format(
            "the VM's TSC runs at {} kHz, the one here at {} kHz, and {} cannot scale it here",
            plan.tsc_frequency_khz,
            host.backend.tsc_frequency_khz,
            host.backend.name));
    }
    std::ranges::move(features, std::back_inserter(reasons));
    return reasons;
}

} // namespace

Plan plan_for(vmm::Machine& machine) {
    Plan plan;
    plan.config = machine.config();
    for (const vmm::MemoryRegion& region : machine.memory().regions()) {
        plan.regions.push_back(region.pages);
    }
    plan.backend = machine.backend().name;
    plan.tsc_frequency_khz = machine.backend().tsc_frequency_khz;
    plan.has_interrupt_controller = machine.backend().has_interrupt_controller;
    plan.stays_paused = machine.running_state() == vmm::RunningState::paused;
    return plan;
}

void to_proto(const Plan& plan, formats::proto::Plan& into) {
    into.set_vm_name(plan.vm_name);
    into.set_vm_id(plan.vm_id);
    into.set_arbiter(plan.arbiter);
    vmm::to_proto(plan.config, *into.mutable_config());
    into.set_page_size(static_cast<std::uint32_t>(plan.page_size.value()));
    for (const formats::PageRange region : plan.regions) {
        auto* const message = into.add_regions();
        message->set_first_gfn(region.first().value());
        message->set_page_count(region.count().value());
    }
    into.set_backend(plan.backend);
    into.set_tsc_frequency_khz(plan.tsc_frequency_khz);
    into.set_has_interrupt_controller(plan.has_interrupt_controller);
    into.set_stays_paused(plan.stays_paused);
    into.set_populated_bytes(plan.populated.value());
    into.set_downtime_goal_ms(static_cast<std::uint32_t>(
        std::chrono::duration_cast<std::chrono::milliseconds>(plan.downtime_goal).count()));
}

formats::Result<Plan> from_proto(const formats::proto::Plan& message) {
    Plan plan;
    plan.vm_name = formats::sanitised(message.vm_name(), vm_name_limit);
    plan.vm_id = formats::sanitised(message.vm_id(), vm_name_limit);
    if (message.arbiter().size() > arbiter_name_limit) {
        return formats::fail(
            ErrorCode::protocol,
            fmt::format("an arbiter's name has at most {} bytes", arbiter_name_limit));
    }
    plan.arbiter = message.arbiter();
    auto config = vmm::from_proto(message.config());
    if (!config) {
        return formats::fail(std::move(config).error());
    }
    plan.config = *std::move(config);
    plan.page_size = Bytes{message.page_size()};
    if (message.regions_size() == 0 || message.regions_size() > regions_limit) {
        return formats::fail(
            ErrorCode::protocol,
            fmt::format(
                "a plan has 1 to {} memory regions, not {}",
                regions_limit,
                message.regions_size()));
    }
    for (const auto& region : message.regions()) {
        auto range = formats::PageRange::make(
            formats::Gfn{region.first_gfn()}, formats::PageCount{region.page_count()});
        if (!range || (!plan.regions.empty() && range->first() < plan.regions.back().end())) {
            return formats::fail(
                ErrorCode::protocol,
                "the memory regions of a plan are neither empty nor out of order");
        }
        plan.regions.push_back(*range);
    }
    plan.backend = formats::sanitised(message.backend(), vm_name_limit);
    plan.tsc_frequency_khz = message.tsc_frequency_khz();
    plan.has_interrupt_controller = message.has_interrupt_controller();
    plan.stays_paused = message.stays_paused();
    plan.populated = Bytes{message.populated_bytes()};
    plan.downtime_goal = std::chrono::milliseconds{message.downtime_goal_ms()};
    return plan;
}

std::vector<std::string> objections(const Plan& plan, const HostOffer& host) {
    auto reasons = missing_features(plan, host);
    if (!memory_suffices(plan, host)) {
        reasons.push_back(fmt::format(
            "the VM needs {:.0f} MiB of memory ({:.0f} MiB of RAM and {:.0f} MiB for the VMM), and "
            "{:.0f} MiB are available here",
            in_mib(memory_needed(plan)),
            in_mib(plan.config.memory),
            in_mib(memory_reserve),
            in_mib(host.available_memory)));
    }
    return reasons;
}

formats::Status accept_plan(const Plan& plan, const HostOffer& host) {
    const auto reasons = objections(plan, host);
    if (reasons.empty()) {
        return {};
    }
    const bool only_memory = reasons.size() == 1 && !memory_suffices(plan, host);
    return formats::fail(
        only_memory ? ErrorCode::out_of_resources : ErrorCode::incompatible,
        fmt::format("{}", fmt::join(reasons, "; ")));
}

formats::Status check_layout(const Plan& plan, const vmm::GuestMemory& memory) {
    const auto regions = memory.regions();
    const bool equal = std::ranges::equal(
        regions, plan.regions, {}, [](const vmm::MemoryRegion& region) { return region.pages; });
    if (equal) {
        return {};
    }
    return formats::fail(
        ErrorCode::incompatible,
        fmt::format(
            "the VM's RAM lies in {} regions at other addresses than the {} that this side's "
            "version makes for {:.0f} MiB",
            plan.regions.size(),
            regions.size(),
            in_mib(plan.config.memory)));
}

std::vector<std::string> findings(const Plan& plan, const HostOffer& host) {
    std::vector<std::string> found;
    found.push_back(fmt::format(
        "{} vCPUs and {:.0f} MiB of RAM ({:.0f} MiB in use), from {} to {}",
        plan.config.vcpus,
        in_mib(plan.config.memory),
        in_mib(plan.populated),
        plan.backend,
        host.backend.name));
    found.push_back(fmt::format(
        "the guest sees the {} CPU profile", vmm::name_of(vmm::profile_of(plan.config.cpuid))));
    found.push_back(fmt::format(
        "the destination has {:.0f} MiB of memory available and offers every CPU feature the "
        "guest sees",
        in_mib(host.available_memory)));
    if (plan.tsc_frequency_khz == 0 || host.backend.tsc_frequency_khz == 0) {
        found.emplace_back("a TSC frequency is not known: the guest's clock may run differently");
    } else if (plan.tsc_frequency_khz != host.backend.tsc_frequency_khz) {
        found.push_back(fmt::format(
            "the TSC goes on at {} kHz on a host of {} kHz",
            plan.tsc_frequency_khz,
            host.backend.tsc_frequency_khz));
    }
    return found;
}

PlanVerdict verdict_on(const Plan& plan, const HostOffer& host) {
    return {
        .findings = findings(plan, host),
        .objections = {},
        .postcopy_obstacle = host.backend.postcopy_obstacle};
}

void to_proto(const PlanVerdict& verdict, const HostOffer& host, formats::proto::PlanAnswer& into) {
    into.set_backend(host.backend.name);
    into.set_available_memory_bytes(host.available_memory.value());
    into.set_postcopy_obstacle(verdict.postcopy_obstacle);
    for (const std::string& finding : verdict.findings) {
        into.add_findings(finding);
    }
    for (const std::string& objection : verdict.objections) {
        into.add_objections(objection);
    }
}

PlanVerdict from_proto(const formats::proto::PlanAnswer& message) {
    return {
        .findings = sentences_of(message.findings()),
        .objections = sentences_of(message.objections()),
        .postcopy_obstacle = formats::sanitised(message.postcopy_obstacle())};
}

} // namespace wherry::migrate
