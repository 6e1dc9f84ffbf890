// SPDX-License-Identifier: Apache-2.0
// The same over real TLS and TCP on loopback.
#include "harness.hpp"
#include "transport/connection.hpp"
#include "transport/pki.hpp"

#include <array>
#include <filesystem>
#include <string>
#include <system_error>

#include <doctest/doctest.h>

#include <stdlib.h>

using namespace wherry;
using namespace wherry::tests;
using migrate::DestinationState;
using migrate::SourceState;
using transport::Task;

namespace {

/// Certificates in a directory that is gone at the end.
class TestPki {
public:
    TestPki() {
        std::string pattern = (std::filesystem::temp_directory_path() / "wherry-XXXXXX").string();
        REQUIRE(::mkdtemp(pattern.data()) != nullptr);
        path_ = pattern;
        const std::array<std::string, 2> hosts{"localhost", "127.0.0.1"};
        REQUIRE(transport::make_pki(path_ / "pki", hosts));
    }
    TestPki(const TestPki&) = delete;
    TestPki& operator=(const TestPki&) = delete;
    ~TestPki() {
        std::error_code ignored; // nothing depends on it
        std::filesystem::remove_all(path_, ignored);
    }
    [[nodiscard]] transport::TlsContext server() const {
        return *transport::TlsContext::for_server(path_ / "pki");
    }
    [[nodiscard]] transport::TlsContext client() const {
        return *transport::TlsContext::for_client(path_ / "pki");
    }

private:
    std::filesystem::path path_;
};

/// One migration over TLS on loopback.
void migrate_over_tls(Attempt& attempt, TestMachine& machine, RunWitness& witness) {
    const TestPki pki;
    auto listener = transport::Listener::open(
        attempt.io.get_executor(), transport::Endpoint{"127.0.0.1", 0}, pki.server());
    REQUIRE(listener);
    attempt.source.threads = attempt.destination.threads = migrate::ChannelThreads::own;
    attempt.start_destination(witness);
    formats::Status served;
    transport::spawn(
        attempt.io.get_executor(),
        attempt.reception().serve(*listener),
        [&](formats::Status status) { served = std::move(status); });
    attempt.start_source(
        machine, [to = listener->local(), client = pki.client()](migrate::ChannelRole, auto) {
            return transport::connect(to, client);
        });
    attempt.run_until_done();
    listener->close();
    attempt.io.restart();
    attempt.io.poll();
    CHECK_MESSAGE(served, (served ? "" : served.error().text()));
}

} // namespace

TEST_SUITE("migrate.tls_loopback") {
    TEST_CASE(
        "C12: a guest with 64 MiB of pages and a writer arrives complete over 1, 2, 8 streams") {
        std::uint32_t streams = 1;
        SUBCASE("one") {}
        SUBCASE("two") {
            streams = 2;
        }
        SUBCASE("eight") {
            streams = 8;
        }
        boost::asio::io_context io;
        RunWitness witness;
        Attempt attempt{io};
        TestMachineOptions options;
        options.memory = formats::Bytes{std::uint64_t{96} << 20U};
        options.has_writer_thread = true;
        options.hot_pages = 500;
        attempt.source.policy.downtime = 2s;
        attempt.source.policy.streams = streams;
        const auto machine = running_machine(witness, options, 16'384);
        migrate_over_tls(attempt, *machine, witness);
        REQUIRE(attempt.sent);
        CHECK_MESSAGE(
            !attempt.sent->error, (attempt.sent->error ? attempt.sent->error->text() : ""));
        REQUIRE(attempt.received);
        CHECK(attempt.received->state == DestinationState::done);
        CHECK(rule_broken(attempt, *machine, witness) == "");
        CHECK(attempt.sent->report.notes.empty());
        CHECK(attempt.sent->report.streams == streams);
        CHECK(attempt.received->report.streams == streams);
    }

    TEST_CASE("a refusal reaches the source in its own words") {
        boost::asio::io_context io;
        RunWitness witness;
        Attempt attempt{io};
        attempt.destination.available_memory = []() -> formats::Result<formats::Bytes> {
            return formats::Bytes{1};
        };
        const auto machine = running_machine(witness);
        migrate_over_tls(attempt, *machine, witness);
        REQUIRE(attempt.sent->error);
        CHECK(attempt.sent->error->text().starts_with("the destination refused: the VM needs"));
        CHECK(rule_broken(attempt, *machine, witness) == "");
    }

    TEST_CASE("an error in the middle of the pages reaches the side that is sending") {
        boost::asio::io_context io;
        RunWitness witness;
        Attempt attempt{io};
        TestMachineOptions options;
        options.memory = formats::Bytes{std::uint64_t{64} << 20U};
        const auto machine = running_machine(witness, options, 12'000);
        attempt.destination_observer.on_progress = [&](const migrate::ProgressSnapshot& now) {
            if (now.phase == formats::Phase::precopy && now.wire_bytes.value() > 0) {
                attempt.destination_gate.request_cancel();
            }
        };
        migrate_over_tls(attempt, *machine, witness);
        REQUIRE(attempt.sent->error);
        CHECK(attempt.sent->error->code() == formats::ErrorCode::cancelled);
        CHECK(attempt.sent->error->text() == "the migration was cancelled on the destination");
        CHECK(rule_broken(attempt, *machine, witness) == "");
    }
}
