// SPDX-License-Identifier: Apache-2.0
// The conformance suite of /dev/mshv: see docs/mshv.md. Without the device every case is named as
// skipped, and the program ends with 77.
#include "tests/mshv/device.hpp"

#include <array>
#include <cstdio>
#include <ostream>
#include <string>

#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <sys/utsname.h>

namespace {

using wherry::conformance::device_path;
using wherry::conformance::open_device;

constexpr int skipped_exit_code = 77;

/// Answers a listing of all cases with one line for each.
struct NamesAsSkipped : doctest::IReporter {
    explicit NamesAsSkipped(const doctest::ContextOptions& /*options*/) {}
    void report_query(const doctest::QueryData& query) override {
        const std::string reason = open_device().outcome;
        for (unsigned i = 0; i < query.num_data; ++i) {
            fmt::print(
                "SKIPPED: {}: {}: open {}: {}\n",
                query.data[i]->m_test_suite,
                query.data[i]->m_name,
                device_path(),
                reason);
        }
    }
    void test_run_start() override {}
    void test_run_end(const doctest::TestRunStats& /*stats*/) override {}
    void test_case_start(const doctest::TestCaseData& /*data*/) override {}
    void test_case_reenter(const doctest::TestCaseData& /*data*/) override {}
    void test_case_end(const doctest::CurrentTestCaseStats& /*stats*/) override {}
    void test_case_exception(const doctest::TestCaseException& /*exception*/) override {}
    void subcase_start(const doctest::SubcaseSignature& /*signature*/) override {}
    void subcase_end() override {}
    void log_assert(const doctest::AssertData& /*data*/) override {}
    void log_message(const doctest::MessageData& /*data*/) override {}
    void test_case_skipped(const doctest::TestCaseData& /*data*/) override {}
};
REGISTER_REPORTER("names_as_skipped", 1, NamesAsSkipped);

void describe_host() {
    utsname host{};
    if (::uname(&host) == 0) {
        fmt::print("HOST: {} {} {}, {}\n", host.sysname, host.release, host.version, device_path());
        std::fflush(stdout);
    }
}

} // namespace

int main(int argc, char** argv) {
    doctest::Context context{argc, argv};
    if (!open_device().descriptor.is_open()) {
        constexpr std::array listing = {
            "mshv_conformance", "--list-test-cases", "--reporters=names_as_skipped"};
        context.applyCommandLine(static_cast<int>(listing.size()), listing.data());
        context.run();
        return skipped_exit_code;
    }
    describe_host();
    return context.run();
}
