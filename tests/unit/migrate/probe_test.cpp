// SPDX-License-Identifier: Apache-2.0
#include "migrate/probe.hpp"

#include "probe_visit.hpp"

#include <memory>

#include <doctest/doctest.h>

using namespace wherry;
using namespace wherry::tests;
using formats::Bytes;
using formats::ErrorCode;
using formats::FrameType;
using formats::Side;
using migrate::ChannelName;
using migrate::ChannelRole;
using migrate::Control;
using migrate::SessionChannel;
using transport::Task;

namespace {

Task<std::unique_ptr<transport::ByteStream>> cannot_connect() {
    co_return formats::fail(ErrorCode::unreachable, "nobody is there");
}

/// A destination that answers each hello with this.
Task<void> refuse(SessionChannel& channel, formats::Error error) {
    auto heard = co_await channel.hear_hello();
    if (!heard) {
        co_return formats::fail(std::move(heard).error());
    }
    co_return co_await channel.fail(error, 1s);
}

/// A destination that has counted everything before it has come.
Task<void> lie(SessionChannel& channel) {
    auto heard = co_await channel.hear_hello();
    if (!heard) {
        co_return formats::fail(std::move(heard).error());
    }
    auto told = co_await channel.answer_hello(*heard);
    if (!told) {
        co_return told;
    }
    Control message;
    message.mutable_plan_answer();
    told = co_await channel.send(message);
    if (!told) {
        co_return told;
    }
    message.mutable_probed()->set_bytes(UINT64_MAX);
    co_return co_await channel.send(message);
}

} // namespace

TEST_SUITE("migrate.probe") {
    TEST_CASE("a destination that waits is asked, the link measured, and it goes on waiting") {
        ProbeVisit visit;
        for (int i = 0; i < 2; ++i) {
            const auto& found = visit.run();
            REQUIRE_MESSAGE(found, (found ? "" : found.error().text()));
            CHECK(found->verdict.objections.empty());
            CHECK(found->verdict.findings.size() >= 3);
            CHECK(found->verdict.postcopy_obstacle == visit.desk.host.postcopy_obstacle);
            CHECK(found->rate.usual.value() > 0);
            CHECK(found->rate.low <= found->rate.usual);
            CHECK(found->sent > Bytes{0});
            CHECK(found->sent <= migrate::probe_limit);
            CHECK(found->measuring > 0ns);
            CHECK(visit.refusals.empty());
            visit.outcome.reset();
        }
        visit.check_a_migration_gets_in();
    }

    TEST_CASE("a limit on the bandwidth holds for the probe") {
        ProbeVisit visit;
        visit.asked.policy.bandwidth = migrate::BytesPerSecond{std::uint64_t{4} << 20U};
        const auto& found = visit.run();
        REQUIRE(found);
        CHECK(found->sent <= Bytes{std::uint64_t{6} << 20U});
    }

    TEST_CASE("why a VM would be refused is said as a migration says it, and no failure") {
        ProbeVisit visit;
        visit.desk.available_memory = []() -> formats::Result<Bytes> {
            return Bytes{std::uint64_t{1} << 20U};
        };
        visit.asked.plan.tsc_frequency_khz = 1'000;
        visit.desk.host.tsc_frequency_khz = 2'000'000;
        visit.desk.host.can_scale_tsc = false;
        const auto expected = migrate::objections(
            visit.asked.plan, {visit.desk.host, *visit.desk.available_memory()});
        REQUIRE(expected.size() == 2);
        const auto& found = visit.run();
        REQUIRE(found);
        CHECK(found->verdict.objections == expected);
        CHECK(found->verdict.findings.empty());
        CHECK(found->rate.usual.value() > 0);
    }

    TEST_CASE("a destination that is taking a VM in, or has had it, is not to be measured") {
        ProbeVisit visit;
        visit.open_desk();
        auto control = visit.channel();
        ChannelName name;
        name.migration_id = "m-1";
        CHECK(visit.result_of(control->open_as_source(name)));
        auto intake = visit.result_of(visit.reception->next_migration());
        REQUIRE(intake);
        const auto& busy = visit.run();
        REQUIRE_FALSE(busy);
        CHECK(busy.error().code() == ErrorCode::refused);
        CHECK(busy.error().text().find("a VM is arriving here") != std::string::npos);

        ProbeVisit late;
        late.open_desk();
        late.reception->turn_away("b has had its VM");
        const auto& over = late.run();
        REQUIRE_FALSE(over);
        CHECK(over.error().text().find("b has had its VM") != std::string::npos);
    }

    TEST_CASE("one probe at a time") {
        ProbeVisit visit;
        auto first = visit.strange_source();
        const auto& second = visit.run();
        REQUIRE_FALSE(second);
        CHECK(second.error().code() == ErrorCode::refused);
        CHECK(second.error().text().find("another source is measuring") != std::string::npos);
        visit.send_plan(*first); // and is not disturbed
        first->close();
        visit.run_until([&] { return visit.refusals.size() == 2; }); // the second, and the lost one
        visit.check_a_migration_gets_in();
    }

    TEST_CASE("a migration that begins ends a probe, and does not wait for it") {
        for (const bool is_measuring : {false, true}) {
            CAPTURE(is_measuring);
            ProbeVisit visit;
            auto probing = visit.strange_source();
            if (is_measuring) {
                visit.send_plan(*probing);
                REQUIRE(visit.send(*probing, FrameType::probe, 4096));
                CHECK(visit.result_of(probing->expect(Control::kProbed))->probed().bytes() == 4096);
            }
            visit.check_a_migration_gets_in();
            const auto told = visit.result_of(probing->expect(Control::kProbed));
            REQUIRE_FALSE(told);
            CHECK(told.error().code() == ErrorCode::refused);
            CHECK(told.error().text().find("a VM has begun to arrive") != std::string::npos);
        }
    }

    TEST_CASE("a source that is sending hears why its probe was ended") {
        ProbeVisit visit;
        visit.asked.policy.bandwidth = migrate::BytesPerSecond{std::uint64_t{1} << 20U};
        visit.start();
        visit.run_until([&] { return visit.source_script->steps > 12; });
        REQUIRE_FALSE(visit.outcome);
        auto control = visit.channel();
        ChannelName name;
        name.migration_id = "m-1";
        CHECK(visit.result_of(control->open_as_source(name)));
        visit.run_until([&] { return visit.outcome.has_value(); });
        REQUIRE_FALSE(*visit.outcome);
        CHECK(visit.outcome->error().code() == ErrorCode::refused);
        CHECK(visit.outcome->error().text().find("ask again afterwards") != std::string::npos);
    }

    TEST_CASE("an older destination, which knows of no such role, is told from one that refuses") {
        struct Case {
            ErrorCode said, found;
            const char* part;
        };
        for (const auto& [said, found, part] :
             {Case{ErrorCode::protocol, ErrorCode::unsupported, "upgrade it, or estimate without"},
              Case{ErrorCode::refused, ErrorCode::refused, "no role 5"}}) {
            ProbeVisit visit;
            auto pair = transport::make_memory_pair(visit.io.get_executor());
            SessionChannel older{std::move(pair.second), Side::destination, 10s};
            std::unique_ptr<transport::ByteStream> near = std::move(pair.first);
            visit.asked.connect = [&near](ChannelRole, std::uint32_t) {
                return hand_out(std::move(near));
            };
            bool has_ended = false;
            transport::spawn(
                visit.io.get_executor(),
                refuse(older, {said, "there is no role 5 for a channel in this version"}),
                [&has_ended](const formats::Status&) { has_ended = true; });
            const auto& answer = visit.run();
            visit.run_until([&has_ended] { return has_ended; });
            REQUIRE_FALSE(answer);
            CHECK(answer.error().code() == found);
            CHECK_MESSAGE(
                answer.error().text().find(part) != std::string::npos, answer.error().text());
        }
    }

    TEST_CASE("a destination that cannot be reached: the cause, and what to do") {
        ProbeVisit visit;
        visit.asked.connect = [](ChannelRole, std::uint32_t) {
            return cannot_connect();
        };
        const auto& found = visit.run();
        REQUIRE_FALSE(found);
        CHECK(found.error().code() == ErrorCode::unreachable);
        CHECK(
            found.error().text() ==
            "nobody is there; start `wherry receive` there, or estimate without --to");
    }

    TEST_CASE("whatever breaks at whichever step, both sides end, and a VM still gets in") {
        for (const bool at_source : {true, false}) {
            for (const Fault fault : {Fault::cut, Fault::stall, Fault::corrupt}) {
                // Each stall costs the silence that ends it, which a busy machine must not be.
                const std::uint64_t stride = fault == Fault::stall ? 3 : 1;
                for (std::uint64_t step = 0; step < 24; step += stride) {
                    CAPTURE(at_source);
                    CAPTURE(static_cast<int>(fault));
                    CAPTURE(step);
                    ProbeVisit visit;
                    if (fault == Fault::stall) {
                        visit.asked.policy.silence = 500ms;
                        visit.manners.hello_deadline = 500ms;
                    }
                    const auto script = at_source ? visit.source_script : visit.destination_script;
                    script->at = step;
                    script->fault = fault;
                    const auto& found = visit.run();
                    CHECK(script->fired);
                    REQUIRE_FALSE(found);
                    CHECK_FALSE(found.error().text().empty());
                    visit.check_a_migration_gets_in();
                }
            }
        }
    }

    TEST_CASE("a cancel at any step ends it soon, and a VM still gets in") {
        for (std::uint64_t step = 0; step < 24; ++step) {
            CAPTURE(step);
            ProbeVisit visit;
            visit.source_script->at = step;
            visit.source_script->fault = Fault::call;
            visit.source_script->action = [&visit] {
                visit.cancel.emit(boost::asio::cancellation_type::terminal);
                visit.probe->hurry();
            };
            const auto& found = visit.run();
            REQUIRE_FALSE(found);
            CHECK(found.error().code() == ErrorCode::cancelled);
            visit.check_a_migration_gets_in();
        }
    }

    TEST_CASE("a destination that counts what was not sent is not believed") {
        ProbeVisit visit;
        auto pair = transport::make_memory_pair(visit.io.get_executor());
        SessionChannel liar{std::move(pair.second), Side::destination, 10s};
        std::unique_ptr<transport::ByteStream> near = std::move(pair.first);
        visit.asked.connect = [&near](ChannelRole, std::uint32_t) {
            return hand_out(std::move(near));
        };
        bool has_ended = false;
        transport::spawn(visit.io.get_executor(), lie(liar), [&has_ended](const formats::Status&) {
            has_ended = true;
        });
        const auto& found = visit.run();
        visit.run_until([&has_ended] { return has_ended; });
        REQUIRE_FALSE(found);
        CHECK(found.error().code() == ErrorCode::protocol);
    }
}
