// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "harness.hpp"
#include "migrate/probe.hpp"

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include <doctest/doctest.h>

namespace wherry::tests {

inline transport::Task<std::unique_ptr<transport::ByteStream>>
hand_out(std::unique_ptr<transport::ByteStream> stream) {
    co_return stream;
}

/// A source, and a destination that waits for a VM, in this process and thread.
struct ProbeVisit {
    boost::asio::io_context io;
    RunWitness witness;
    TestMachine machine{{}, witness};
    std::shared_ptr<Script> source_script = std::make_shared<Script>();
    std::shared_ptr<Script> destination_script = std::make_shared<Script>();
    migrate::ReceptionOptions manners;
    migrate::ProbeDeskOptions desk;
    migrate::ProbeOptions asked;
    std::optional<migrate::Reception> reception;
    std::optional<migrate::Probe> probe;
    std::optional<formats::Result<migrate::ProbeOutcome>> outcome;
    std::vector<formats::Error> refusals;
    bool is_desk_open = false;
    boost::asio::cancellation_signal cancel;

    ProbeVisit() {
        manners.busy_patience = 20ms;
        desk.host = TestMachineOptions{}.backend;
        desk.available_memory = []() -> formats::Result<formats::Bytes> {
            return formats::Bytes{std::uint64_t{8} << 30U};
        };
        asked.name.migration_id = "p-1";
        asked.plan = migrate::plan_for(machine);
        asked.plan.vm_name = "vm";
    }
    ProbeVisit(const ProbeVisit&) = delete;
    ProbeVisit& operator=(const ProbeVisit&) = delete;
    ~ProbeVisit() {
        if (reception) {
            reception->close();
        }
        io.restart();
        while (is_desk_open && io.run_one() > 0) {
        }
    }

    void open_desk() {
        manners.silence = asked.policy.silence;
        manners.on_refusal = desk.on_refusal = [this](const formats::Error& error) {
            refusals.push_back(error);
        };
        reception.emplace(io.get_executor(), manners);
        is_desk_open = true;
        transport::spawn(
            io.get_executor(),
            migrate::answer_probes(*reception, desk),
            [this](const formats::Status& ended) {
                CHECK(ended);
                is_desk_open = false;
            });
    }
    /// The source's end of a new connection.
    std::unique_ptr<transport::ByteStream> connection() {
        auto pair = transport::make_memory_pair(io.get_executor());
        reception->greet(
            std::make_unique<ScriptedStream>(std::move(pair.second), destination_script));
        return std::make_unique<ScriptedStream>(std::move(pair.first), source_script);
    }
    void start() {
        if (!reception) {
            open_desk();
        }
        if (!asked.connect) {
            asked.connect = [this](migrate::ChannelRole role, std::uint32_t) {
                CHECK(role == migrate::ChannelRole::probe);
                return hand_out(connection());
            };
        }
        probe.emplace(io.get_executor(), asked);
        transport::spawn(
            io.get_executor(),
            probe->run(),
            [this](formats::Result<migrate::ProbeOutcome> result) {
                outcome.emplace(std::move(result));
            },
            cancel.slot());
    }
    template <typename Done>
    void run_until(Done&& done) {
        io.restart();
        while (!done() && io.run_one() > 0) {
        }
    }
    formats::Result<migrate::ProbeOutcome>& run() {
        start();
        run_until([this] { return outcome.has_value(); });
        REQUIRE(outcome);
        return *outcome;
    }
    template <typename T>
    formats::Result<T> result_of(transport::Task<T> work) {
        std::optional<formats::Result<T>> result;
        transport::spawn(io.get_executor(), std::move(work), [&](formats::Result<T> got) {
            result.emplace(std::move(got));
        });
        run_until([&] { return result.has_value(); });
        REQUIRE(result);
        return *std::move(result);
    }
    std::unique_ptr<migrate::SessionChannel> channel() {
        return std::make_unique<migrate::SessionChannel>(connection(), formats::Side::source, 10s);
    }
    /// A VM still gets in: nothing is in its way.
    void check_a_migration_gets_in() {
        source_script = std::make_shared<Script>();
        destination_script = std::make_shared<Script>();
        auto control = channel();
        migrate::ChannelName name;
        name.migration_id = "m-1";
        CHECK(result_of(control->open_as_source(name)));
        auto intake = result_of(reception->next_migration());
        REQUIRE(intake);
        CHECK((*intake)->name().migration_id == "m-1");
    }
    /// A source that does as the test says; the probe's channel is open.
    std::unique_ptr<migrate::SessionChannel> strange_source() {
        open_desk();
        auto strange = channel();
        migrate::ChannelName name;
        name.migration_id = "p-1";
        name.role = migrate::ChannelRole::probe;
        REQUIRE(result_of(strange->open_as_source(name)));
        return strange;
    }
    formats::Status
    send(migrate::SessionChannel& channel, formats::FrameType type, std::size_t size) {
        const std::vector<std::byte> bytes(size);
        const std::span<const std::byte> part{bytes};
        return result_of(channel.send(type, transport::Gather(&part, 1), formats::digest_of(part)));
    }
    void send_plan(migrate::SessionChannel& channel) {
        migrate::Control message;
        to_proto(asked.plan, *message.mutable_plan());
        REQUIRE(result_of(channel.send(message)));
        REQUIRE(result_of(channel.expect(migrate::Control::kPlanAnswer)));
    }
};

} // namespace wherry::tests
