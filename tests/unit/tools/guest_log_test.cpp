// SPDX-License-Identifier: Apache-2.0
#include "tools/trial/guest_log.hpp"

#include <filesystem>
#include <fstream>
#include <string>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <unistd.h>

using namespace wherry::tools;
using namespace std::chrono_literals;

namespace {

const std::string good_line =
    "wherry-guest report n=7 cpu=1 t_us=1400000 pages=100 checked=250 sweeps=2 dirtied=30 "
    "errors=4 gap_us=1500 max_gap_us=9000 tsc_back=1 turns=5";

class TemporaryFile {
public:
    TemporaryFile()
        : path_{
              std::filesystem::temp_directory_path() /
              ("wherry-guest-log-" + std::to_string(::getpid()))} {
        std::filesystem::remove(path_);
    }
    ~TemporaryFile() { std::filesystem::remove(path_); }
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;
    void append(const std::string& text) const {
        std::ofstream{path_, std::ios::app | std::ios::binary} << text;
    }
    [[nodiscard]] const std::filesystem::path& path() const { return path_; }

private:
    std::filesystem::path path_;
};

} // namespace

TEST_SUITE("tools.guest_log") {
    TEST_CASE("a report line is read by its keys") {
        const auto report = parse_guest_report(good_line);
        REQUIRE(report.has_value());
        CHECK(report->sequence == 7);
        CHECK(report->cpu == 1);
        CHECK(report->pages_checked == 250);
        CHECK(report->sweeps == 2);
        CHECK(report->pages_dirtied == 30);
        CHECK(report->errors == 4);
        CHECK(report->gap == 1500us); // not max_gap_us
        CHECK(report->at == 1400000us);
        CHECK(report->tsc_steps_back == 1);
    }

    TEST_CASE("a cut report and other lines are not reports") {
        CHECK_FALSE(parse_guest_report("wherry-guest ready pages=1").has_value());
        CHECK_FALSE(parse_guest_report("").has_value());
        const auto cut = good_line.find("tsc_back");
        CHECK_FALSE(parse_guest_report(good_line.substr(0, cut)).has_value());
    }

    TEST_CASE("totals add the last report of each vCPU, steps back of the TSC as errors") {
        const TemporaryFile file;
        GuestLog log{file.path()};
        log.refresh();
        CHECK(log.reports().empty());
        file.append("wherry-guest ready pages=200\r\n" + good_line + "\r\n");
        file.append("wherry-guest report n=1 cpu=0 t_us=1 pages=9 checked=50 sweeps=5 dirtied=3 "
                    "errors=0 gap_us=20 max_gap_us=20 tsc_back=0\n");
        file.append("wherry-guest error page=5 version=1\n" + good_line); // no end of line yet
        log.refresh();
        CHECK(log.ready());
        REQUIRE(log.reports().size() == 2);
        CHECK(log.error_lines().size() == 1);
        CHECK(log.totals().pages_checked == 300);
        CHECK(log.totals().errors == 5);
        CHECK(log.totals().least_sweeps == 2);
        CHECK(log.hand_over_gap() == 1500us);
        file.append("\n");
        log.refresh();
        CHECK(log.reports().size() == 3);
    }

    TEST_CASE(
        "a rate of work is of a window that is long enough, and of nothing before its begin") {
        const TemporaryFile file;
        GuestLog log{file.path()};
        for (int n = 0; n < 5; ++n) {
            file.append(fmt::format(
                "wherry-guest report n={0} cpu=0 t_us={1} pages=9 checked={2} sweeps=1 dirtied={2} "
                "errors=0 gap_us=1 max_gap_us=20 tsc_back=0\n",
                n,
                n * 50'000,
                n * n * 10));
        }
        log.refresh();
        REQUIRE(log.reports().size() == 5);
        CHECK(log.rate(0, 4, 100ms) == 2 * (160 - 40) / 0.1);
        CHECK(log.rate(0, 4, 101ms) == 2 * (160 - 10) / 0.15);
        CHECK(log.rate(2, 4, 100ms) == 2 * (160 - 40) / 0.1);
        CHECK_FALSE(log.rate(3, 4, 100ms));
        CHECK_FALSE(log.rate(0, 0, 100ms));
    }

    TEST_CASE("only a vCPU's first two reports can span the hand-over") {
        const TemporaryFile file;
        GuestLog log{file.path()};
        const auto report = [](int n, int cpu, int gap_us) {
            return fmt::format(
                "wherry-guest report n={} cpu={} t_us=1 pages=9 checked=5 sweeps=1 dirtied=3 "
                "errors=0 gap_us={} max_gap_us=20 tsc_back=0\n",
                n,
                cpu,
                gap_us);
        };
        file.append(report(1, 0, 10) + report(2, 0, 20) + report(3, 0, 99) + report(1, 1, 30));
        log.refresh();
        CHECK(log.hand_over_gap() == 30us);
    }
}
