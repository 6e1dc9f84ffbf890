// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/page_range.hpp"
#include "formats/result.hpp"
#include "formats/units.hpp"
#include "migrate/policy.hpp"
#include "vmm/machine.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace wherry::formats::proto { // formats/proto/control.pb.h
class Plan;
class PlanAnswer;
} // namespace wherry::formats::proto

namespace wherry::migrate {

inline constexpr std::size_t vm_name_limit = 64;

/// What the source tells the destination about its VM before anything of it moves.
struct Plan {
    std::string vm_name;
    std::string vm_id; ///< migrate::VmId as text; may be empty
    /// What will decide who has the VM: "local", or a shared arbiter's name. May be empty.
    std::string arbiter;
    vmm::MachineConfig config;
    formats::Bytes page_size{formats::page_size};
    std::vector<formats::PageRange> regions;
    std::string backend;
    std::uint64_t tsc_frequency_khz = 0;
    bool has_interrupt_controller = false;
    bool stays_paused = false;
    formats::Bytes populated;
    Duration downtime_goal{};
};

/// The plan for `machine`. `populated` and the names are added by the caller.
Plan plan_for(vmm::Machine& machine);

void to_proto(const Plan& plan, formats::proto::Plan& into);
/// Total; text is sanitised, regions are ascending and do not overlap.
formats::Result<Plan> from_proto(const formats::proto::Plan& message);

/// What a host offers an arriving VM.
struct HostOffer {
    vmm::BackendCapabilities backend;
    formats::Bytes available_memory;
};

/// One sentence for each reason why the VM cannot live there; empty: it can.
std::vector<std::string> objections(const Plan& plan, const HostOffer& host);
/// The same as an error that names them all: `out_of_resources` if memory is all that is missing,
/// else `incompatible`.
formats::Status accept_plan(const Plan& plan, const HostOffer& host);
/// `incompatible` where the RAM of the machine made for a plan lies elsewhere than the plan says.
formats::Status check_layout(const Plan& plan, const vmm::GuestMemory& memory);
/// For people: what was agreed.
std::vector<std::string> findings(const Plan& plan, const HostOffer& host);

/// What a destination says of a plan, fit to be shown.
struct PlanVerdict {
    std::vector<std::string> findings;
    /// Why the VM would be refused. On a probe only: a migration is refused with an Error.
    std::vector<std::string> objections;
    /// Why a guest cannot run there with pages missing; empty: it can.
    std::string postcopy_obstacle;
};
/// That of `host`: of objections none. The rest of `into` is the caller's.
PlanVerdict verdict_on(const Plan& plan, const HostOffer& host);
void to_proto(const PlanVerdict& verdict, const HostOffer& host, formats::proto::PlanAnswer& into);
/// Total.
PlanVerdict from_proto(const formats::proto::PlanAnswer& message);

} // namespace wherry::migrate
