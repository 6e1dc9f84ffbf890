// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/link_measurement.hpp"
#include "migrate/plan.hpp"
#include "migrate/reception.hpp"
#include "migrate/source_session.hpp"

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace wherry::migrate {

struct ProbeOptions {
    /// Called once.
    Connector connect;
    ChannelName name; ///< its role is not looked at
    Plan plan;
    /// For the destination's silence, the plan's deadline, and `bandwidth`, which holds here too.
    Policy policy;
    /// Hears of the verdict before the link is measured. Empty: nobody does.
    std::function<void(const PlanVerdict&)> on_verdict{};
};

/// What a destination has said of a migration to there, and what the link to it has carried.
struct ProbeOutcome {
    std::string peer;
    Duration connecting{}; ///< until the destination was reached and known
    Duration planning{};   ///< until its verdict, with the opening of the channel
    Duration round_trip{};
    PlanVerdict verdict;
    LinkRate rate;
    formats::Bytes sent; ///< to find that out, in this time
    Duration measuring{};
};

/// The source's half: asks a destination that waits for a migration what would become of one, and
/// measures the link, over one connection. Nothing is taken in there. Busy for longest_probe and as
/// long as it takes what is under way then to arrive. One thread.
class Probe {
public:
    Probe(const transport::Executor& executor, ProbeOptions options);
    Probe(const Probe&) = delete;
    Probe& operator=(const Probe&) = delete;
    ~Probe() = default;

    /// Once. An Error is of a destination that could not be reached, or does not answer now; that
    /// it would refuse the VM is none, but in the verdict.
    transport::Task<ProbeOutcome> run();
    /// For who has cancelled run(): what is being written has a moment to finish.
    void hurry();

private:
    transport::Task<void> ask();
    transport::Task<void> measure();
    transport::Task<void> send(formats::Bytes piece);
    transport::Task<void> hear(LinkMeasurement& measurement);
    transport::Task<Control> expect(Control::MessageCase kind, Duration limit);
    transport::Task<formats::Error> explain(formats::Error error);
    transport::Task<void> hear_out();

    transport::Executor executor_;
    ProbeOptions options_;
    std::unique_ptr<SessionChannel> channel_;
    std::vector<std::byte> load_;
    ProbeOutcome outcome_;
};

struct ProbeDeskOptions {
    /// What a VM would run on here.
    vmm::BackendCapabilities host;
    /// How much memory a new VM may take here; host_memory_headroom where unset.
    std::function<formats::Result<formats::Bytes>()> available_memory{};
    /// Hears of each source that was not answered to the end. Empty: nobody does.
    std::function<void(const formats::Error&)> on_refusal{};
    /// For one source, from its hello to its end.
    Duration limit = std::chrono::seconds{30};
};

/// The destination's half: answers probes, one after the other, until the reception is closed.
/// What is sent to measure the link is counted, acknowledged and thrown away, probe_limit of it at
/// most. A migration that begins ends the probe that is here. A task of its own, on the reception's
/// thread.
transport::Task<void> answer_probes(Reception& reception, ProbeDeskOptions options);

} // namespace wherry::migrate
